"""Sharpness-aware minimization: gradients that lead to flat minima (Foret et al. 2021).

Weights in a flat minimum carry over better to what was not trained on, and a model's confidence then says
more about where it is right (Zhu et al. 2022). It needs each step's gradient twice, so it is for the last
epochs, which bring most of what all epochs would (Zhou et al. 2025).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import tensorflow as tf

Tensor = Any
"""A `tf.Tensor`; TensorFlow ships no type information."""

Variable = Any
"""A `tf.Variable`."""

_LEAST: Final = 1e-12  # keeps a gradient of 0 from dividing by it


def sharpness_aware(
    gradient: Callable[[], tuple[Tensor, list[Tensor]]],
    trained: Sequence[Variable],
    statistics: Sequence[Variable],
    *,
    radius: float,
) -> tuple[Tensor, list[Tensor]]:
    """Return the loss at the weights, and the gradient where the loss is highest within `radius` of them.

    What `gradient` draws at random, such as dropout, it draws anew for the second call.

    Args:
        gradient: computes the loss at the current weights and its gradient.
        trained: the weights; they are moved for the second gradient and put back, to the bit.
        statistics: what `gradient` changes besides, such as batch norms' averages: they keep what the first
            call made of them, since the second one's weights are not the network's.
        radius: Euclidean length, over all weights together; 0 for the gradient at the weights themselves.
    """
    loss, found = gradient()
    if not radius:
        return loss, found
    kept = [tf.identity(variable) for variable in (*trained, *statistics)]
    scale = radius / (tf.linalg.global_norm(found) + _LEAST)
    for variable, slope in zip(trained, found, strict=True):
        variable.assign_add(scale * slope)
    _, found = gradient()
    for variable, value in zip((*trained, *statistics), kept, strict=True):
        variable.assign(value)
    return loss, found
