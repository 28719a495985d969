"""Quantisation-aware finish: a copy of the network learns to give the same logits although it is rounded.

Float arithmetic imitates the rounding (Jacob et al. 2018, section 3): weights symmetric per output channel,
activations per tensor, as TensorFlow Lite's converter does. Gradients pass it unchanged (Bengio et al. 2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from core.images import SIDE
from trainer.config import QuantiseConfig
from trainer.fit import cosine
from trainer.network import Model, backbone_of

_LEVELS: Final = 127  # of a weight, on each side of zero
_WARM_UP: Final = 0.1  # of the steps; Adam's first ones would move all weights alike
_RANGE_BATCH: Final = 8  # images
_RECENT: Final = 50  # steps whose mean error is told

Tensor = Any
"""A `tf.Tensor` or `tf.Variable`; TensorFlow ships no type information."""

Ranges = dict[str, tuple[float, float]]
"""Least and largest activation by name of the layer."""


class FakeQuant(keras.layers.Layer):  # type: ignore[misc] # Keras ships no type information
    """Rounds float32 activations to 256 levels from `low` to `high`, of which one is zero."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self._ends = low, high

    def call(self, inputs: Tensor) -> Tensor:
        """Return the rounded activations; ends of the range cut gradients off."""
        return tf.quantization.fake_quant_with_min_max_args(inputs, *self._ends)


def finish(
    network: Model,
    pixels: npt.NDArray[np.uint8],
    range_pixels: npt.NDArray[np.uint8],
    config: QuantiseConfig,
    *,
    seed: int,
    on_step: Callable[[float], None],
) -> Model:
    """Train a copy of `trainer.fold.folded`'s network for `trainer.quantise.to_int8_tflite`.

    It needs no labels: the loss is the squared difference from the float network's logits, plus that of each
    feature's share in the logit, which tells more of an image than one number does.

    Args:
        network: stays as it is.
        pixels: uint8 (N, 128, 128, 3), training images.
        range_pixels: uint8 (M, 128, 128, 3), which the ranges of activations are measured on.
        config: how long.
        seed: of the order of images.
        on_step: called with the recent error of logits, root mean square, after each step.

    Returns:
        The copy; after no steps the network.
    """
    if config.steps == 0:
        return network
    student, errors = _copy(network), list[float]()
    batch = min(config.batch, len(pixels))
    step, trained, optimizer = _training(network, student, range_pixels, config)
    for at, chosen in enumerate(_batches(len(pixels), batch, config.steps, seed)):
        warm = min(1.0, (at + 1) / (_WARM_UP * config.steps))
        optimizer.learning_rate.assign(config.learning_rate * warm * cosine(at, config.steps))
        errors.append(float(step(tf.constant(pixels[chosen]))))
        on_step(math.sqrt(np.mean(errors[-_RECENT:])))
    for variable, value in trained():
        variable.assign(value)
    return student


def rounded(network: Model, range_pixels: npt.NDArray[np.uint8]) -> Model:
    """Return the network up to its features with activations rounded; the layers are shared.

    It takes pixels, float32 (N, 128, 128, 3) in 0..255, and reads them half a level too bright, as the
    converter does: zero must be one of 256 levels.

    Args:
        network: of `trainer.fold.folded`.
        range_pixels: uint8 (N, 128, 128, 3), which the ranges are measured on.
    """
    backbone = backbone_of(network)
    ranges = _ranges(network, range_pixels)

    def call(layer: Any, *tensors: Tensor, **_options: Any) -> Tensor:
        outputs = layer(*tensors)
        return FakeQuant(*ranges[layer.name])(outputs) if layer.name in ranges else outputs

    imitation = keras.models.clone_model(
        backbone,
        input_tensors=keras.Input((SIDE, SIDE, 3)),
        clone_function=lambda layer: layer,
        call_function=call,
    )
    pixels = keras.Input((SIDE, SIDE, 3))
    maps = imitation(keras.layers.Rescaling(1 / 127.5, offset=-127 / 127.5)(pixels))
    features = FakeQuant(*ranges["pool"])(network.get_layer("pool")(maps))
    return keras.Model(pixels, features)


def rounded_kernel(kernel: Tensor) -> Tensor:
    """Return a convolution's kernel with each output channel rounded to 255 levels around zero."""
    unit = tf.stop_gradient(
        tf.maximum(tf.reduce_max(tf.abs(kernel), _inputs(kernel), keepdims=True), 1e-12) / _LEVELS
    )
    return kernel + tf.stop_gradient(tf.round(kernel / unit) * unit - kernel)


def _training(
    network: Model, student: Model, range_pixels: npt.NDArray[np.uint8], config: QuantiseConfig
) -> tuple[Any, Callable[[], Iterator[tuple[Tensor, Tensor]]], Any]:
    """Return a step from images to their mean error, what it trains, with its values, and its optimizer."""
    backbone, imitation = backbone_of(network), rounded(student, range_pixels)
    head = tf.constant(network.get_layer("head").get_weights()[0][:, 0])
    variables = imitation.trainable_variables
    units = _units(variables)
    latent = [keras.Variable(np.asarray(each) / unit) for each, unit in zip(variables, units, strict=True)]
    optimizer = keras.optimizers.Adam(config.learning_rate, beta_2=0.99)  # 0.999 is for longer training
    optimizer.build(latent)

    def values() -> list[Tensor]:
        return [each.value * unit for each, unit in zip(latent, units, strict=True)]

    def step(images: Tensor) -> Tensor:
        images = tf.cast(images, tf.float32)
        wanted = tf.reduce_mean(backbone(images / 127.5 - 1, training=False), (1, 2))
        with tf.GradientTape() as tape:
            weights = [rounded_kernel(each) if _is_kernel(each) else each for each in values()]
            features, _ = imitation.stateless_call(weights, [], images, training=False)
            shares = (features - wanted) * head
            error = tf.reduce_mean(tf.square(tf.reduce_sum(shares, 1)))
            loss = error + tf.reduce_mean(tf.reduce_sum(tf.square(shares), 1))
        optimizer.apply(tape.gradient(loss, [each.value for each in latent]))
        return error

    return tf.function(step, jit_compile=False), lambda: zip(variables, values(), strict=True), optimizer


def _units(variables: list[Tensor]) -> list[npt.NDArray[np.float32]]:
    """Return the unit that each weight is trained in, so that one learning rate suits all layers.

    Of a kernel it is the rounding step of each output channel; of the bias behind it, what such errors of the
    kernel's weights add up to.
    """
    units: list[npt.NDArray[np.float32]] = []
    for variable in variables:
        if _is_kernel(variable):
            kernel = np.asarray(variable)
            unit = np.maximum(np.abs(kernel).max(_inputs(kernel), keepdims=True), 1e-12) / _LEVELS
            weights = kernel.size // unit.size
            units.append(unit.astype(np.float32))
        else:
            units.append((unit.ravel() * math.sqrt(weights)).astype(np.float32))
    return units


def _is_kernel(variable: Tensor) -> bool:
    return len(variable.shape) == 4  # noqa: PLR2004 - height, width, in, out


def _inputs(kernel: Tensor) -> tuple[int, ...]:
    """Return all axes but that of output channels, which is the last, but of depthwise kernels the third."""
    return (0, 1, 3) if kernel.shape[-1] == 1 else (0, 1, 2)


def _ranges(network: Model, pixels: npt.NDArray[np.uint8]) -> Ranges:
    """Measure what the converter rounds: features, and outputs of each ReLU6, projection and addition."""
    backbone = backbone_of(network)
    names = [layer.name for layer in backbone.layers if _is_rounded(layer)]
    maps = [backbone.get_layer(name).output for name in names]
    outputs = keras.Model(backbone.inputs, [*maps, network.get_layer("pool")(backbone.output)])

    def ends(images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        found = outputs(tf.cast(images, tf.float32) / 127.5 - 1, training=False)
        return [tf.reduce_min(each) for each in found], [tf.reduce_max(each) for each in found]

    compiled = tf.function(ends, jit_compile=False, reduce_retracing=True)
    batches = (pixels[at : at + _RANGE_BATCH] for at in range(0, len(pixels), _RANGE_BATCH))
    found = np.array([compiled(tf.constant(batch)) for batch in batches])  # batch, end, layer
    lowest = np.minimum(found[:, 0].min(0), 0.0)  # zero is always among the levels
    highest = np.maximum(found[:, 1].max(0), 1e-6)
    ends_of = zip([*names, "pool"], lowest, highest, strict=True)
    ranges = {name: (float(low), float(high)) for name, low, high in ends_of}
    for name in names:
        if name.endswith("_add"):  # the converter lets a sum and its projection have one range
            projection = name.removesuffix("_add") + "_project_BN"
            both = ranges[name], ranges[projection]
            ranges[name] = ranges[projection] = min(low for low, _ in both), max(high for _, high in both)
    return ranges


def _is_rounded(layer: Any) -> bool:
    # Projections are linear; where their batch norm was, `trainer.fold.folded` leaves its name.
    return isinstance(layer, keras.layers.ReLU | keras.layers.Add) or layer.name.endswith("_project_BN")


def _batches(count: int, batch: int, steps: int, seed: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the images of each step, all of them once before any comes again."""
    rng = np.random.default_rng(seed)
    order = np.empty(0, np.int64)
    for _ in range(steps):
        if len(order) < batch:
            order = rng.permutation(count)
        yield order[:batch]
        order = order[batch:]


def _copy(network: Model) -> Model:
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    return copy
