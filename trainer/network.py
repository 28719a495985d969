"""MobileNetV2 with one output: the log-odds of `non_biodegradable`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from core.images import SIDE
from core.model.manifest import file_entry
from trainer.batch_norm import fused
from trainer.errors import ConfigError, WeightsError

ARCHITECTURE: Final = "MobileNetV2 1.0 (Sandler et al. 2018)"

FEATURES: Final = 1280
"""Features of an image from the backbone."""

CLASSES: Final = 1000
"""ImageNet's classes, in Keras' and PyTorch's common order."""

IMAGENET: Final = "imagenet"
"""As `--weights`: Keras downloads them on first use."""

Model = Any
"""A `keras.Model`; Keras ships no type information."""


def build_backbone(weights: str | Path) -> Model:
    """Return MobileNetV2 without its classifier: float32 (N, 128, 128, 3) in -1..1 to (N, 4, 4, 1280).

    Its batch norms are fused; the file is of the network as Keras has it.

    Args:
        weights: "imagenet", or a `.weights.h5` or `.keras` file of the same network.

    Raises:
        WeightsError: the file is missing, is not a weights file, or belongs to another architecture.
    """
    backbone = fused(_imagenet() if str(weights) == IMAGENET else _from_file(Path(weights)))
    _round_kernels(backbone)
    return backbone


def _from_file(path: Path) -> Model:
    if not path.is_file():
        raise WeightsError(f"The weights {path} do not exist; name a file or `imagenet`.")
    backbone = empty_backbone()
    try:
        backbone.load_weights(path)
    except Exception as error:  # h5py and Keras raise many exception types for an unsuitable file.
        raise WeightsError(
            f"The weights {path} do not fit MobileNetV2 (alpha 1.0, without top): {_first_line(error)}"
        ) from error
    return backbone


def describe_weights(weights: str | Path) -> dict[str, str]:
    """Return the manifest's entry on the initial weights: name and sha256 of a file."""
    if str(weights) == IMAGENET:
        return {"name": "Keras' ImageNet weights"}
    path = Path(weights)
    return {"name": path.name, "sha256": file_entry(path).sha256}


def empty_backbone() -> Model:
    """Return Keras' MobileNetV2 without its classifier, with random weights."""
    return keras.applications.MobileNetV2(input_shape=(SIDE, SIDE, 3), include_top=False, weights=None)


def build_network(backbone: Model, *, dropout: float) -> Model:
    """Put scaling in front of the backbone and a linear head behind it.

    Returns:
        A model from float32 (N, 128, 128, 3) RGB in 0..255 to logits (N,), head weights zero.
    """
    pixels = keras.Input((SIDE, SIDE, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1, name="scale")(pixels)
    features = keras.layers.GlobalAveragePooling2D(name="pool")(backbone(scaled))
    features = keras.layers.Dropout(dropout, name="dropout")(features)
    logit = keras.layers.Dense(1, kernel_initializer="zeros", name="head")(features)
    return keras.Model(pixels, keras.layers.Reshape((), name="logit")(logit), name="wastestream")


def build_student(backbone: Model, *, dropout: float) -> Model:
    """Return `build_network` with two more outputs, for distillation.

    Returns:
        A model from pixels, as of `build_network`, to logits (N,), the teacher's prior (N,) and logits of its
        classes (N, 1000).
    """
    network = build_network(backbone, dropout=dropout)
    features = network.get_layer("dropout").output
    prior = keras.layers.Dense(1, kernel_initializer="zeros", name="prior")(features)
    classes = keras.layers.Dense(CLASSES, kernel_initializer="zeros", name="classes")(features)
    outputs = [network.output, keras.layers.Reshape((), name="prior_logit")(prior), classes]
    return keras.Model(network.input, outputs, name="student")


def at_side(network: Model, side: int) -> Model:
    """Return `build_student`'s `network` for images of another side, sharing its layers and weights.

    Keras' MobileNetV2 pads by the input's size, and an undefined size pads differently, so the graph
    is rebuilt. Sides that are multiples of 32 pad alike.
    """
    if side == SIDE:
        return network
    backbone = keras.models.clone_model(
        backbone_of(network), input_tensors=keras.Input((side, side, 3)), clone_function=lambda layer: layer
    )
    pixels = keras.Input((side, side, 3), name="pixels")
    features = backbone(network.get_layer("scale")(pixels))
    for name in ("pool", "dropout"):
        features = network.get_layer(name)(features)

    def follow(*names: str) -> Any:
        outputs = features
        for name in names:
            outputs = network.get_layer(name)(outputs)
        return outputs

    return keras.Model(pixels, [follow("head", "logit"), follow("prior", "prior_logit"), follow("classes")])


def backbone_of(network: Model) -> Model:
    """Return the MobileNetV2 inside a network of `build_network`."""
    return next(layer for layer in network.layers if isinstance(layer, keras.Model))


def check_layer(backbone: Model, layer_name: str) -> None:
    """Return if the backbone has a layer of that name, or the name is empty.

    Raises:
        ConfigError: it has none.
    """
    if layer_name and layer_name not in {layer.name for layer in backbone.layers}:
        raise ConfigError(
            f"fine_tune.trainable_after: MobileNetV2 has no layer {layer_name!r}; an example is block_2_add."
        )


def unfreeze_after(network: Model, layer_name: str, *, batch_norm_momentum: float) -> None:
    """Make the backbone trainable behind the named layer; frozen batch norms keep their statistics.

    Raises:
        ConfigError: the backbone has no layer of that name.
    """
    check_layer(backbone_of(network), layer_name)
    layers = backbone_of(network).layers
    names = [layer.name for layer in layers]
    first = names.index(layer_name) + 1 if layer_name else 0
    for at, layer in enumerate(layers):
        layer.trainable = at >= first
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = batch_norm_momentum


def set_head(network: Model, kernel: npt.NDArray[np.float32], bias: float, *, name: str = "head") -> None:
    """Give a linear head its weights: `kernel` float32 (1280,) and `bias`."""
    network.get_layer(name).set_weights([kernel.reshape(-1, 1), np.array([bias], np.float32)])


def head_weights(network: Model, name: str = "head") -> tuple[npt.NDArray[np.float32], float]:
    """Return the weights of `set_head`."""
    kernel, bias = (np.asarray(weight) for weight in network.get_layer(name).weights)
    return kernel[:, 0], float(bias[0])


def read_classifier(path: str | Path) -> list[npt.NDArray[np.float32]]:
    """Return ImageNet's classifier of the backbone: kernel float32 (1280, 1000) and bias float32 (1000,).

    Args:
        path: "imagenet", or a `.npz` file of `kernel` and `bias`.

    Raises:
        WeightsError: the file is missing, or has other contents.
    """
    if str(path) == IMAGENET:
        return list(_imagenet(include_top=True).get_layer("predictions").get_weights())
    try:
        with np.load(path) as stored:
            arrays = [stored[name].astype(np.float32) for name in ("kernel", "bias")]
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"The classifier {path} is no .npz file of `kernel` and `bias` ({error})."
        ) from error
    if [weight.shape for weight in arrays] != [(FEATURES, CLASSES), (CLASSES,)]:
        raise WeightsError(f"The classifier {path} does not fit MobileNetV2's {FEATURES} features.")
    return arrays


def _round_kernels(model: Model) -> None:
    """Round convolution kernels to float16.

    The export stores float16. The first depthwise kernel has values up to 56 that almost cancel;
    rounded only at the end it moved probabilities by up to 0.05. Rounded here, layers that stay frozen
    are exported without a loss and the others train from there.
    """
    for layer in model.layers:
        for variable in layer.weights:
            if len(variable.shape) == 4:  # noqa: PLR2004 - kernels: height, width, in, out
                variable.assign(np.asarray(variable).astype(np.float16).astype(np.float32))


def _imagenet(*, include_top: bool = False) -> Model:
    try:
        return keras.applications.MobileNetV2(
            input_shape=(SIDE, SIDE, 3), include_top=include_top, weights="imagenet"
        )
    except Exception as error:  # urllib, ssl and Keras each have their own; the cause is the download.
        raise WeightsError(
            "The ImageNet weights could not be downloaded "
            f"({_first_line(error)}); give --weights the path of a .weights.h5 file."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
