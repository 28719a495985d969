"""Blend of two heads, the labels' and the teacher's prior, with the best shares for unseen kinds.

On kinds of objects that were trained on, the head of the labels is nearly always right and the prior adds
nothing; only kinds held out say how much it adds on others. Both heads are linear in the same features, so
their sum is one linear head again.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.dataset import balanced
from trainer.network import Model, head_weights, set_head

_STEPS: Final = 50  # of Newton's method; three numbers converge within ten
_DAMPING: Final = 1e-3  # keeps the steps finite for perfectly separable classes

Floats = npt.NDArray[np.float64]


def fit_blend(opinions: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> tuple[float, float, float]:
    """Return the shares of both heads and the offset with the least loss, both classes at equal weight.

    A prior with a negative share is omitted.

    Args:
        opinions: float32 (N, 2), logits of the head and of the prior.
        labels: int64 (N,), 0 or 1; of kinds held out from training.
    """
    weights = balanced(labels, np.ones(len(labels)))
    share, prior, offset = _logistic_regression(opinions.astype(np.float64), labels, weights)
    if prior < 0:
        share, offset = _logistic_regression(opinions[:, :1].astype(np.float64), labels, weights)
        prior = 0.0
    return float(share), float(prior), float(offset)


def blend(network: Model, shares: tuple[float, float, float]) -> None:
    """Replace the head of `build_student`'s network by the sum of head and prior in `fit_blend`'s shares."""
    head, prior, offset = shares
    kernel, bias = head_weights(network)
    prior_kernel, prior_bias = head_weights(network, "prior")
    set_head(network, head * kernel + prior * prior_kernel, head * bias + prior * prior_bias + offset)


def _logistic_regression(inputs: Floats, labels: npt.NDArray[np.int64], weights: Floats) -> Floats:
    """Return coefficients and offset by Newton's method, float64 (K + 1,)."""
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    coefficients = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        said = 1 / (1 + np.exp(-np.clip(inputs @ coefficients, -30, 30)))
        slope = inputs.T @ (weights * (said - labels)) / len(labels) + _DAMPING * coefficients
        curvature = (inputs.T * (weights * said * (1 - said))) @ inputs / len(labels)
        coefficients -= np.linalg.solve(curvature + _DAMPING * np.eye(len(coefficients)), slope)
    return coefficients
