"""Sharpness-aware minimization: where the gradient is taken, and what stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
import tensorflow as tf

from trainer.sharpness import sharpness_aware


def bowl(weights: Any, calls: Any) -> Any:
    """The loss (9x² + y²)/2 and its gradient, which also counts its calls."""

    def gradient() -> tuple[Any, list[Any]]:
        calls.assign_add(1.0)
        return (9 * weights[0] ** 2 + weights[1] ** 2) / 2, [tf.stack([9 * weights[0], weights[1]])]

    return gradient


@pytest.mark.parametrize(
    ("radius", "where"), [(0.0, (1.0, 12.0)), (0.5, (1.0 + 0.5 * 9 / 15, 12.0 + 0.5 * 12 / 15))]
)
def test_the_gradient_is_taken_uphill(radius: float, where: tuple[float, float]) -> None:
    """At the weights plus `radius` along the gradient, which is (9, 12); the loss is that at the weights."""
    weights, calls = tf.Variable([1.0, 12.0]), tf.Variable(0.0)
    loss, (found,) = tf.function(sharpness_aware)(bowl(weights, calls), [weights], [calls], radius=radius)
    assert found.numpy() == pytest.approx([9 * where[0], where[1]])
    assert float(loss) == (9 + 144) / 2
    assert weights.numpy().tolist() == [1.0, 12.0]
    assert float(calls) == 1  # of statistics, what the first call made of them stays


def test_a_gradient_of_nothing_moves_nothing() -> None:
    """At a minimum there is no uphill."""
    weights, calls = tf.Variable([0.0, 0.0]), tf.Variable(0.0)
    _, (found,) = sharpness_aware(bowl(weights, calls), [weights], [calls], radius=0.5)
    assert found.numpy().tolist() == [0.0, 0.0]
