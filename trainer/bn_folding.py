"""The network as it is served: batch norms folded into the convolutions, weights that float16 can hold."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer.network import Model, backbone_of, build_network

Floats = npt.NDArray[np.float32]


def folded(network: Model) -> Model:
    """Return the same function without batch norms, every weight rounded to float16's precision.

    A batch norm in inference is a factor and an offset per channel, which the convolution before it
    can carry (Jacob et al. 2018, section 3.2). The TFLite converter would fold as well, but only then
    round to float16; folded and rounded here, calibration and metrics see the very weights that ship.

    Args:
        network: of `trainer.network.build_network`.

    Returns:
        A network of the same form whose convolutions have biases.
    """
    backbone = backbone_of(network)
    lean = keras.models.clone_model(
        backbone,
        clone_function=_without_batch_norm,
        # Only the tensors: a batch norm was called with a mask, which its replacement does not take.
        call_function=lambda layer, *tensors, **_options: layer(*tensors),
    )
    convolution: Any = None
    for layer in backbone.layers:  # in MobileNetV2 each convolution is followed by its batch norm
        if isinstance(layer, keras.layers.BatchNormalization):
            lean.get_layer(convolution.name).set_weights(_fold(convolution, layer))
        elif _is_convolution(layer):
            convolution = layer
    served = build_network(lean, dropout=0.0)
    served.get_layer("head").set_weights([_round(np.asarray(w)) for w in network.get_layer("head").weights])
    return served


def _without_batch_norm(layer: Any) -> Any:
    config = layer.get_config()
    if isinstance(layer, keras.layers.BatchNormalization):
        return keras.layers.Identity(name=layer.name)
    if _is_convolution(layer):
        config["use_bias"] = True
    return type(layer).from_config(config)


def _fold(convolution: Any, norm: Any) -> list[Floats]:
    gamma, beta, mean, variance = (np.asarray(weight, np.float64) for weight in norm.weights)
    factor = gamma / np.sqrt(variance + norm.epsilon)
    kernel = np.asarray(convolution.weights[0], np.float64)
    # Output channels are the last axis, but a depthwise kernel is (height, width, channels, 1).
    depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    kernel = kernel * (factor[:, None] if depthwise else factor)
    return [_round(kernel), _round(beta - mean * factor)]


def _is_convolution(layer: Any) -> bool:
    return isinstance(layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)


def _round(values: npt.NDArray[Any]) -> Floats:
    return values.astype(np.float16).astype(np.float32)
