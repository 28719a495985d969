"""Quantisation-aware finish: a copy of the network learns to give the same logits although it is rounded."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from trainer.config import QuantizeConfig
from trainer.fake_quant import LEVELS, Ranges, Tensor, input_axes, is_kernel, rounded, rounded_kernel, scaled
from trainer.fit import cosine
from trainer.network import Model, backbone_of

_WARM_UP: Final = 0.1  # of the steps; Adam's first ones would move all weights alike
_RECENT: Final = 50  # steps whose mean error is told


def finish(
    network: Model,
    pixels: npt.NDArray[np.uint8],
    ranges: Ranges,
    config: QuantizeConfig,
    *,
    seed: int,
    on_step: Callable[[float], None],
) -> Model:
    """Train a copy of `trainer.bn_folding.folded`'s network for `trainer.quantize.to_int8_tflite`.

    It needs no labels: the loss is the squared difference from the float network's logits, plus that of each
    feature's share in the logit, which tells more of an image than one number does.

    Args:
        network: stays as it is.
        pixels: uint8 (N, 128, 128, 3), training images.
        ranges: of the activations; of `trainer.fake_quant.measure`.
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
    step, trained, optimizer = _training(network, student, ranges, config)
    for at, chosen in enumerate(_batches(len(pixels), batch, config.steps, seed)):
        warm = min(1.0, (at + 1) / (_WARM_UP * config.steps))
        optimizer.learning_rate.assign(config.learning_rate * warm * cosine(at, config.steps))
        errors.append(float(step(tf.constant(pixels[chosen]))))
        on_step(math.sqrt(np.mean(errors[-_RECENT:])))
    for variable, value in trained():
        variable.assign(value)
    return student


def _training(
    network: Model, student: Model, ranges: Ranges, config: QuantizeConfig
) -> tuple[Any, Callable[[], Iterator[tuple[Tensor, Tensor]]], Any]:
    """Return a step from images to their mean error, its trained variables with values, and its optimizer."""
    backbone, imitation = backbone_of(network), rounded(student, ranges)
    head = tf.constant(network.get_layer("head").get_weights()[0][:, 0])
    variables = imitation.trainable_variables
    units = _units(variables)
    latent = [keras.Variable(np.asarray(each) / unit) for each, unit in zip(variables, units, strict=True)]
    optimizer = keras.optimizers.Adam(config.learning_rate, beta_2=0.99)  # 0.999 is for longer training
    optimizer.build(latent)

    def values() -> list[Tensor]:
        return [each.value * unit for each, unit in zip(latent, units, strict=True)]

    def step(images: Tensor) -> Tensor:
        wanted = tf.reduce_mean(backbone(tf.cast(images, tf.float32) / 127.5 - 1, training=False), (1, 2))
        with tf.GradientTape() as tape:
            weights = [rounded_kernel(each) if is_kernel(each) else each for each in values()]
            features, _ = imitation.stateless_call(weights, [], scaled(images), training=False)
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
        if is_kernel(variable):
            kernel = np.asarray(variable)
            unit = np.maximum(np.abs(kernel).max(input_axes(kernel), keepdims=True), 1e-12) / LEVELS
            weights = kernel.size // unit.size
            units.append(unit.astype(np.float32))
        else:
            units.append((unit.ravel() * math.sqrt(weights)).astype(np.float32))
    return units


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
