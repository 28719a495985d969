"""Batch norm as one kernel."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no type information."""


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc] # Keras ships no types
    """Keras' batch norm of (N, height, width, channels), with the same weights, computed by one kernel.

    Keras 3 composes it of means, differences and products. On CPUs each of them reads and writes the whole
    array once more: a training step of MobileNetV2 takes 8 % longer.
    """

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:  # noqa: FBT001 - Keras'
        """Normalise `inputs` by their own statistics in training, by the moving ones otherwise."""
        del mask  # only images of different lengths would have one
        learns = bool(training and self.trainable)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            self.gamma.value,
            self.beta.value,
            mean=None if learns else self.moving_mean.value,
            variance=None if learns else self.moving_variance.value,
            epsilon=self.epsilon,
            is_training=learns,
        )
        if learns:
            for moving, of_batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(self.momentum * moving + (1 - self.momentum) * of_batch)
        return outputs


def fused(network: Any) -> Any:
    """Return a copy of a Keras model, weights included, whose batch norms are fused."""

    def replace(layer: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            return FusedBatchNormalization.from_config(layer.get_config())
        return type(layer).from_config(layer.get_config())

    copy = keras.models.clone_model(network, clone_function=replace)
    copy.set_weights(network.get_weights())
    return copy
