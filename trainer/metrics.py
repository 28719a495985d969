"""How good the predictions are, each figure with a 95 % bootstrap interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from core.model.manifest import BIODEGRADABLE, NON_BIODEGRADABLE, Metric

RESAMPLES: Final = 1000
"""Bootstrap resamples; enough for percentile intervals (Efron & Tibshirani 1993, section 14.2)."""

_INTERVAL: Final = (2.5, 97.5)  # percentiles: the middle 95 %
_BINS: Final = 15  # equal-width bins of the expected calibration error (Guo et al. 2017)

Labels = npt.NDArray[np.int64]
"""int64 (N,): 0 biodegradable, 1 non_biodegradable."""

Probabilities = npt.NDArray[np.float64]
"""float64 (N,): calibrated probability of `non_biodegradable`."""


def measure(
    labels: Labels,
    probabilities: Probabilities,
    *,
    threshold: float,
    review_band: tuple[float, float],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Metric]:
    """Return every figure by name, with the percentile bootstrap interval of resampled images.

    Args:
        labels: the true classes, at least one image.
        probabilities: what the model says.
        threshold: at or above it an image counts as non_biodegradable.
        review_band: strictly between these a person looks.
        resamples: how many times N images are drawn with replacement; 0 leaves the intervals out.
        seed: of the draws.
    """
    point = figures(labels, probabilities, threshold=threshold, review_band=review_band)
    rng = np.random.default_rng(seed)
    draws: dict[str, list[float]] = {name: [] for name in point}
    for _ in range(resamples):
        at = rng.integers(len(labels), size=len(labels))
        drawn = figures(labels[at], probabilities[at], threshold=threshold, review_band=review_band)
        for name, value in drawn.items():
            draws[name].append(value)
    return {name: _with_interval(value, draws[name]) for name, value in point.items()} | {
        "images": Metric(value=len(labels))
    }


def figures(
    labels: Labels, probabilities: Probabilities, *, threshold: float, review_band: tuple[float, float]
) -> dict[str, float]:
    """Return every figure by name, all 0-1. A figure over no images at all is 0."""
    predicted = (probabilities >= threshold).astype(np.int64)
    right = predicted == labels
    in_band = (probabilities > review_band[0]) & (probabilities < review_band[1])
    per_class = {
        f"{name}_{label_name}": value
        for label, label_name in enumerate((BIODEGRADABLE, NON_BIODEGRADABLE))
        for name, value in _class_figures(labels == label, predicted == label).items()
    }
    recalls = [per_class[f"recall_{label_name}"] for label_name in (BIODEGRADABLE, NON_BIODEGRADABLE)]
    return {
        "accuracy": _mean(right),
        "balanced_accuracy": sum(recalls) / 2,
        **per_class,
        "roc_auc": roc_auc(labels, probabilities),
        "ece": expected_calibration_error(labels, probabilities, predicted),
        "review_share": _mean(in_band),
        "error_outside_review": _mean(~right[~in_band]),
    }


def roc_auc(labels: Labels, probabilities: Probabilities) -> float:
    """Return the chance that a random non_biodegradable image scores above a random biodegradable one.

    Ties count half (Mann-Whitney U). 0 when a class is absent.
    """
    values, place, counts = np.unique(probabilities, return_inverse=True, return_counts=True)
    if len(values) == 0:
        return 0.0
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # tied scores share their mean rank
    ones = int(np.sum(labels == 1))
    zeros = len(labels) - ones
    if not ones or not zeros:
        return 0.0
    return float((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def expected_calibration_error(labels: Labels, probabilities: Probabilities, predicted: Labels) -> float:
    """Return the mean gap between the stated and the true share of right labels, over 15 bins.

    The stated one is the probability of the predicted label (Guo et al. 2017, equation 3).
    """
    confidence = np.where(predicted == 1, probabilities, 1 - probabilities)
    bins = np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)
    right = np.bincount(bins, weights=predicted == labels, minlength=_BINS)
    stated = np.bincount(bins, weights=confidence, minlength=_BINS)
    return float(np.abs(right - stated).sum() / max(len(labels), 1))


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of a chart, both float64 (K,)."""

    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]


def roc_curve(labels: Labels, probabilities: Probabilities) -> Curve:
    """Return false-positive rate (x) and true-positive rate (y) of non_biodegradable, from (0, 0) to (1, 1).

    One point for each threshold at which they change; an absent class counts as one image, so that
    the curve stays defined.
    """
    order = np.argsort(-probabilities, kind="stable")
    last_of_ties = np.append(np.diff(probabilities[order]) != 0, True)
    hits = np.cumsum(labels[order] == 1)[last_of_ties]
    misses = np.cumsum(labels[order] == 0)[last_of_ties]
    ones, zeros = max(int(np.sum(labels == 1)), 1), max(int(np.sum(labels == 0)), 1)
    return Curve(np.append(0.0, misses / zeros), np.append(0.0, hits / ones))


@dataclass(frozen=True, slots=True)
class Bin:
    """One bar of a reliability diagram: `low`-`high`, `share` of non_biodegradable among `count` images."""

    low: float
    high: float
    count: int
    stated: float
    share: float


def reliability(labels: Labels, probabilities: Probabilities) -> list[Bin]:
    """Return the occupied bins of a reliability diagram, by probability of non_biodegradable.

    `stated` is the mean probability of a bin (DeGroot & Fienberg 1983); equal-width bins, 15.
    """
    places = np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    return [
        Bin(
            at / _BINS,
            (at + 1) / _BINS,
            int(np.sum(places == at)),
            float(probabilities[places == at].mean()),
            float(labels[places == at].mean()),
        )
        for at in np.unique(places).tolist()
    ]


def _class_figures(true: npt.NDArray[np.bool_], said: npt.NDArray[np.bool_]) -> dict[str, float]:
    hits = float(np.sum(true & said))
    return {
        "precision": hits / max(float(np.sum(said)), 1.0),
        "recall": hits / max(float(np.sum(true)), 1.0),
        "f1": 2 * hits / max(float(np.sum(said) + np.sum(true)), 1.0),
    }


def _mean(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0


def _with_interval(value: float, draws: list[float]) -> Metric:
    if not draws:
        return Metric(value=value)
    low, high = np.percentile(draws, _INTERVAL)
    return Metric(value=value, low=float(low), high=float(high))
