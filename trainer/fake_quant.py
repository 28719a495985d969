"""Fake quantisation: float arithmetic imitates a network's rounding to 8 bits (Jacob et al. 2018, section 3).

Weights are symmetric per output channel, activations per tensor. Gradients pass the rounding unchanged
(Bengio et al. 2013). The converter takes the ranges from the graph: the imitation is what is exported.
"""

from __future__ import annotations

from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from core.images import SIDE
from trainer.network import Model, backbone_of

LEVELS: Final = 127
"""Levels of a weight on each side of zero."""

_MIDDLE: Final = 127  # the byte that is read as zero; a float model has it between two bytes, at 127.5
_PIXELS: Final = ((0 - _MIDDLE) / 127.5, (255 - _MIDDLE) / 127.5)
_BATCH: Final = 8  # images

Tensor = Any
"""A `tf.Tensor` or `tf.Variable`; TensorFlow ships no type information."""

Ranges = dict[str, tuple[float, float]]
"""Least and largest activation by name of the layer."""


class FakeQuant(keras.layers.Layer):  # type: ignore[misc] # Keras ships no type information
    """Rounds float32 activations to 256 levels from `low` to `high`, zero among them."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._ends = low, high

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rounded activations; ends of the range cut gradients off."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, *self._ends)


def measure(network: Model, pixels: npt.NDArray[np.uint8]) -> Ranges:
    """Measure the ranges of features, and of the outputs of each ReLU6, projection and addition.

    Args:
        network: of `trainer.bn_folding.folded`.
        pixels: uint8 (N, 128, 128, 3), on which they are measured.
    """
    backbone = backbone_of(network)
    names = [layer.name for layer in backbone.layers if _is_rounded(layer)]
    maps = [backbone.get_layer(name).output for name in names]
    outputs = keras.Model(backbone.inputs, [*maps, network.get_layer("pool")(backbone.output)])

    def ends(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        tensors = outputs(tf.cast(images, tf.float32) / 127.5 - 1, training=False)
        return [tf.reduce_min(tensor) for tensor in tensors], [tf.reduce_max(tensor) for tensor in tensors]

    compiled = tf.function(ends, jit_compile=False, reduce_retracing=True)
    batches = (pixels[at : at + _BATCH] for at in range(0, len(pixels), _BATCH))
    extremes = np.array([compiled(tf.constant(batch)) for batch in batches])  # batch, end, layer
    lowest = np.minimum(extremes[:, 0].min(0), 0.0)  # zero is always among the levels
    highest = np.maximum(extremes[:, 1].max(0), 1e-6)
    ends_of = zip([*names, "pool"], lowest, highest, strict=True)
    return {name: (float(low), float(high)) for name, low, high in ends_of}


def scaled(pixels: Tensor) -> Tensor:
    """Return pixels, 0..255, as the 8-bit model reads them: half a level brighter than the float one."""
    return (tf.cast(pixels, tf.float32) - _MIDDLE) / 127.5


def rounded(network: Model, ranges: Ranges) -> Model:
    """Return the network up to its features with activations rounded; the layers are shared.

    It takes `scaled` pixels.

    Args:
        network: of `trainer.bn_folding.folded`.
        ranges: of `measure`.
    """

    def call(layer: Any, *tensors: Tensor, **_options: Any) -> Tensor:
        outputs = layer(*tensors)
        return FakeQuant(*ranges[layer.name])(outputs) if layer.name in ranges else outputs

    backbone = keras.models.clone_model(
        backbone_of(network),
        input_tensors=keras.Input((SIDE, SIDE, 3)),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    pixels = keras.Input((SIDE, SIDE, 3), name="pixels")
    features = network.get_layer("pool")(backbone(FakeQuant(*_PIXELS)(pixels)))
    return keras.Model(pixels, FakeQuant(*ranges["pool"])(features))


def rounded_kernel(kernel: Tensor) -> Tensor:
    """Return a convolution's kernel with each output channel rounded to 255 levels around zero."""
    unit = tf.stop_gradient(
        tf.maximum(tf.reduce_max(tf.abs(kernel), input_axes(kernel), keepdims=True), 1e-12) / LEVELS
    )
    return kernel + tf.stop_gradient(tf.round(kernel / unit) * unit - kernel)


def is_kernel(variable: Tensor) -> bool:
    """Return whether a weight is a convolution's kernel, and no bias."""
    return len(variable.shape) == 4  # noqa: PLR2004 - height, width, in, out


def input_axes(kernel: Tensor) -> tuple[int, ...]:
    """Return all axes but that of output channels, which is the last, but of depthwise kernels the third."""
    return (0, 1, 3) if kernel.shape[-1] == 1 else (0, 1, 2)


def _is_rounded(layer: Any) -> bool:
    # Projections are linear; where their batch norm was, `trainer.bn_folding.folded` leaves its name.
    return isinstance(layer, keras.layers.ReLU | keras.layers.Add) or layer.name.endswith("_project_BN")
