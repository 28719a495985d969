"""The quantisation-aware finish: its imitation of rounding, and its gain."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import pytest

from trainer import fit
from trainer.config import QuantizeConfig
from trainer.fake_quant import Ranges, measure, rounded, rounded_kernel, scaled
from trainer.network import backbone_of, build_network, set_head
from trainer.qat import finish
from trainer.quantize import to_int8_tflite

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Pixels = npt.NDArray[np.uint8]
Logits = npt.NDArray[np.float32]


def pictures(count: int, seed: int) -> Pixels:
    """Smooth random pictures, with black and white among them, uint8 (count, 128, 128, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    images = coarse.repeat(16, axis=1).repeat(16, axis=2)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    return images


@pytest.fixture(scope="module")
def network() -> Any:
    """A folded network of random weights that has MobileNetV2's kinds of layers, one of each."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    inputs = keras.Input((128, 128, 3))
    stem = layers.ReLU(6.0)(layers.Conv2D(16, 5, strides=4, bias_initializer="random_normal")(inputs))
    inside = layers.ReLU(6.0)(layers.Conv2D(48, 1, name="block_expand")(stem))
    inside = layers.ReLU(6.0)(layers.DepthwiseConv2D(3, padding="same")(inside))
    projected = layers.Identity(name="block_project_BN")(layers.Conv2D(16, 1, name="block_project")(inside))
    outputs = layers.ReLU(6.0)(layers.Conv2D(64, 1)(layers.Add(name="block_add")([stem, projected])))
    built = build_network(keras.Model(inputs, outputs), dropout=0.0)
    for layer in backbone_of(built).layers:
        if isinstance(
            layer, layers.Conv2D
        ):  # one large weight a channel makes the steps of the others coarse
            kernel, bias = layer.get_weights()
            kernel[0, 0, 0] *= 15
            layer.set_weights([kernel, bias])
    set_head(built, np.random.default_rng(1).normal(0, 1, (64,)).astype(np.float32), 0.5)
    return built


@pytest.fixture(scope="module")
def ranges(network: Any) -> Ranges:
    """The ranges of its activations."""
    return measure(network, pictures(16, 2))


def int8_logits(network: Any, ranges: Ranges, pixels: Pixels) -> Logits:
    """Logits of pictures from the network in 8 bits."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=to_int8_tflite(network, ranges))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, pixels.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(index, pixels)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[:, 0])


def imitated_logits(network: Any, ranges: Ranges, pixels: Pixels) -> Logits:
    """Logits of pictures with weights and activations rounded in float arithmetic."""
    imitation = rounded(network, ranges)
    weights = [
        rounded_kernel(variable) if len(variable.shape) == 4 else variable
        for variable in imitation.trainable_variables
    ]
    features, _ = imitation.stateless_call(weights, [], scaled(pixels))
    return np.asarray(network.get_layer("head")(features))[:, 0]


def difference(first: Logits, second: Logits) -> float:
    """The root of the mean squared difference."""
    return float(np.sqrt(np.mean(np.square(first - second))))


def test_the_imitation_rounds_as_the_converter_does(network: Any, ranges: Ranges) -> None:
    """It differs far less from the 8-bit model than that does from the float model."""
    pixels = pictures(24, 3)
    exact, converted = fit.logits(network, pixels), int8_logits(network, ranges, pixels)
    assert difference(imitated_logits(network, ranges, pixels), converted) < 0.1 * difference(
        exact, converted
    )


def test_the_finish_brings_the_8_bit_model_nearer(network: Any, ranges: Ranges) -> None:
    """On pictures that it has not seen; the float network stays as it is."""
    before, pixels = [weight.copy() for weight in network.get_weights()], pictures(48, 3)
    config = QuantizeConfig(steps=100, batch=8, learning_rate=3e-2)
    errors: list[float] = []
    finished = finish(network, pictures(160, 4), ranges, config, seed=0, on_step=errors.append)
    assert len(errors) == config.steps
    for weight, same in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, same)
    exact = fit.logits(network, pixels)
    plain, nearer = (difference(exact, int8_logits(it, ranges, pixels)) for it in (network, finished))

    assert nearer < 0.7 * plain


def test_without_steps_weights_are_only_rounded(network: Any, ranges: Ranges) -> None:
    """The network itself is converted."""
    config = QuantizeConfig(steps=0, batch=8, learning_rate=3e-3)
    steps: list[float] = []
    assert finish(network, pictures(8, 4), ranges, config, seed=0, on_step=steps.append) is network
    assert not steps


@pytest.mark.parametrize("shape", [(3, 3, 8, 16), (3, 3, 8, 1)])
def test_kernels_are_rounded_for_each_output_channel(shape: tuple[int, ...]) -> None:
    """A channel's largest weight stays, and no weight moves by more than half a step."""
    kernel = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    axes = (0, 1, 3) if shape[-1] == 1 else (0, 1, 2)
    largest = np.abs(kernel).max(axes, keepdims=True)
    rounded = np.asarray(rounded_kernel(kernel))
    np.testing.assert_allclose(np.abs(rounded).max(axes, keepdims=True), largest, rtol=1e-6)
    assert np.all(np.abs(rounded - kernel) <= largest / 127 / 2 * 1.001)
