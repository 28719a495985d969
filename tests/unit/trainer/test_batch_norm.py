"""The fused batch norm is Keras' batch norm."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainer.batch_norm import FusedBatchNormalization, fused


@pytest.fixture
def images() -> Any:
    """Return float32 (4, 3, 5, 2) whose channels differ in mean and spread."""
    return np.random.default_rng(1).normal([3.0, -1.0], [0.5, 2.0], (4, 3, 5, 2)).astype(np.float32)


@pytest.fixture
def pair() -> tuple[Any, Any]:
    """Keras' network of one batch norm, with a scale of its own, and its fused copy."""
    pixels = keras.Input((3, 5, 2))
    plain = keras.Model(pixels, keras.layers.BatchNormalization(momentum=0.75, name="norm")(pixels))
    gamma, beta, mean, variance = (np.array(each, np.float32) for each in ([2, 3], [1, 0], [1, 2], [4, 9]))
    plain.set_weights([gamma, beta, mean, variance])
    return plain, fused(plain)


def test_a_fused_network_says_the_same(pair: tuple[Any, Any], images: Any) -> None:
    """Outside training, both use the moving statistics that were copied."""
    plain, copy = pair
    assert isinstance(copy.get_layer("norm"), FusedBatchNormalization)
    np.testing.assert_allclose(copy(images, training=False), plain(images, training=False), rtol=1e-5)


def test_it_learns_the_same(pair: tuple[Any, Any], images: Any) -> None:
    """In training, outputs, gradients and the moving mean agree; the variance is that of the population."""
    gradients = []
    for network in pair:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(images, training=True) ** 3)
        gradients.append(tape.gradient(loss, [weight.value for weight in network.trainable_variables]))
    for its, mine in zip(*gradients, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4)
    (*_, mean, variance), (*_, mean_of_copy, variance_of_copy) = (each.get_weights() for each in pair)
    np.testing.assert_allclose(mean_of_copy, mean, rtol=1e-5)
    spread = images.reshape(-1, 2).var(0, ddof=1)
    np.testing.assert_allclose(variance_of_copy, 0.75 * np.array([4, 9]) + 0.25 * spread, rtol=1e-4)
    assert not np.allclose(variance, [4, 9])


def test_a_frozen_one_keeps_its_statistics(pair: tuple[Any, Any], images: Any) -> None:
    """A layer that is not trained normalises by the moving statistics, also in training."""
    _, copy = pair
    expected = np.asarray(copy(images, training=False))
    copy.get_layer("norm").trainable = False
    np.testing.assert_allclose(copy(images, training=True), expected, rtol=1e-6)
    np.testing.assert_array_equal(copy.get_weights()[2], [1, 2])
