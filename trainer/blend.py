"""Blend of two heads, the labels' and the teacher's prior, with the best shares for unseen kinds.

On kinds of objects that were trained on, the head of the labels is nearly always right and the prior adds
nothing; only kinds held out say how much it adds on others. The offset is another matter: a few runs of kinds
want it higher or lower by chance, so images of kinds that were trained on have a say in it. Both heads are
linear in the same features, so their sum is one linear head again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.dataset import balanced
from trainer.network import Model, head_weights, set_head

_STEPS: Final = 50  # of Newton's method; three numbers converge within ten
_DAMPING: Final = 1e-3  # keeps the steps finite for perfectly separable classes

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Opinions:
    """What both heads say of N images that were not trained on.

    `logits` is float32 (N, 2), of the head and of the prior; `labels` is int64 (N,), 0 or 1.
    """

    logits: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]

    @property
    def weights(self) -> Floats:
        """Of each image, float64 (N,): both classes alike."""
        return balanced(self.labels, np.ones(len(self.labels)))


def fit_blend(unseen: Opinions, seen: Opinions | None = None) -> tuple[float, float, float]:
    """Return the shares of both heads and the offset with the least loss, both classes at equal weight.

    A prior with a negative share is omitted.

    Args:
        unseen: images of kinds held out from training; they choose the shares.
        seen: others; if given, both sets choose the offset, at equal weight.
    """
    logits = unseen.logits.astype(np.float64)
    share, prior, offset = _logistic_regression(logits, unseen.labels, unseen.weights)
    if prior < 0:
        share, offset = _logistic_regression(logits[:, :1], unseen.labels, unseen.weights)
        prior = 0.0
    if seen is not None:
        offset = _fit_offset([unseen, seen], np.array([share, prior]))
    return float(share), float(prior), float(offset)


def _fit_offset(sets: Sequence[Opinions], shares: Floats) -> float:
    labels = np.concatenate([each.labels for each in sets])
    weights = np.concatenate([each.weights / len(each.labels) for each in sets])
    blended = np.concatenate([each.logits @ shares for each in sets])
    nothing = np.empty((len(labels), 0))
    return float(_logistic_regression(nothing, labels, weights / weights.mean(), known=blended)[0])


def blend(network: Model, shares: tuple[float, float, float]) -> None:
    """Replace the head of `build_student`'s network by the sum of head and prior in `fit_blend`'s shares."""
    head, prior, offset = shares
    kernel, bias = head_weights(network)
    prior_kernel, prior_bias = head_weights(network, "prior")
    set_head(network, head * kernel + prior * prior_kernel, head * bias + prior * prior_bias + offset)


def _logistic_regression(
    inputs: Floats, labels: npt.NDArray[np.int64], weights: Floats, *, known: Floats | float = 0.0
) -> Floats:
    """Return coefficients and offset by Newton's method, float64 (K + 1,), to be added to `known` logits."""
    inputs = np.column_stack([inputs, np.ones(len(inputs))])
    coefficients = np.zeros(inputs.shape[1])
    for _ in range(_STEPS):
        said = 1 / (1 + np.exp(-np.clip(inputs @ coefficients + known, -30, 30)))
        slope = inputs.T @ (weights * (said - labels)) / len(labels) + _DAMPING * coefficients
        curvature = (inputs.T * (weights * said * (1 - said))) @ inputs / len(labels)
        coefficients -= np.linalg.solve(curvature + _DAMPING * np.eye(len(coefficients)), slope)
    return coefficients
