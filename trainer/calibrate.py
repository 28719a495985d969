"""From logits to decisions: temperature, threshold and review band, all chosen on held-out images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.model.manifest import calibrated
from trainer.metrics import Labels, Probabilities

Logits = npt.NDArray[Any]
"""floating point (N,): log-odds of `non_biodegradable`."""

Weights = npt.NDArray[np.float64]
"""float64 (N,): weight of each image."""

_TEMPERATURES: Final = (0.2, 20.0)  # search range; lower values come from images without a mistake
_GOLDEN: Final = (math.sqrt(5) - 1) / 2
_TOLERANCE: Final = 1e-4  # of the temperature's logarithm
_THRESHOLDS: Final = np.linspace(0.3, 0.7, 81)  # candidates; beyond these a class would be lost
MIN_SOURCE: Final = 100
"""Minimum images of a source that the review band is chosen for by itself."""

_EDGES: Final = 200  # candidate edges of the review band on each side of the threshold


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibration; the fields of `core.model.manifest.ModelManifest` of the same names."""

    temperature: float
    threshold: float
    review_band: tuple[float, float]


def calibrate(
    logits: Logits,
    labels: Labels,
    sources: npt.NDArray[np.str_],
    *,
    review_error: float,
    cut: float | None = None,
) -> Calibration:
    """Choose all three on held-out images, shapes (N,), so that they suit every source of them.

    Args:
        logits: of the images.
        labels: their true classes.
        sources: of each image.
        review_error: as `choose_review_band`.
        cut: the logit at which the label changes, for a threshold that keeps it; chosen by default.
    """
    weights = by_source(labels, sources)
    temperature = fit_temperature(logits, labels, weights)
    probabilities = to_probabilities(logits, temperature)
    if cut is None:
        threshold = choose_threshold(probabilities, labels, weights)
    else:
        threshold = calibrated(cut, temperature)
    band = choose_review_band(probabilities, labels, sources, threshold=threshold, review_error=review_error)
    return Calibration(temperature, threshold, band)


def cut_of(temperature: float, threshold: float) -> float:
    """Return the logit at which the label changes."""
    return temperature * math.log(threshold / (1 - threshold))


def by_source(labels: Labels, sources: npt.NDArray[np.str_]) -> Weights:
    """Return weights, mean 1, that give both classes, and the sources within each, equal influence.

    A calibration with them fits all sources, not only the largest.

    Args:
        labels: int64 (N,).
        sources: str (N,), of each image.
    """
    pairs = np.char.add(labels.astype(str), sources.astype(str))
    _, place, counts = np.unique(pairs, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[place]
    for label in np.unique(labels):
        weights[labels == label] /= weights[labels == label].sum()
    return np.asarray(weights * len(labels) / weights.sum(), np.float64)


def to_probabilities(logits: Logits, temperature: float) -> Probabilities:
    """Return `core.model.manifest.calibrated` of each logit."""
    scaled = np.clip(np.asarray(logits, np.float64) / temperature, -60.0, 60.0)
    return np.asarray(1.0 / (1.0 + np.exp(-scaled)), np.float64)


def fit_temperature(logits: Logits, labels: Labels, weights: Weights | None = None) -> float:
    """Return the temperature with the least negative log-likelihood (Guo et al. 2017, section 4.2).

    The loss has one minimum in the temperature, so golden-section search finds it.
    """
    low, high = math.log(_TEMPERATURES[0]), math.log(_TEMPERATURES[1])
    while high - low > _TOLERANCE:
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        losses = [_loss(logits, labels, math.exp(at), weights) for at in (left, right)]
        if losses[0] < losses[1]:
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def calibrated_loss(logits: Logits, labels: Labels) -> float:
    """Return the mean negative log-likelihood at `fit_temperature`'s temperature, nats."""
    return _loss(logits, labels, fit_temperature(logits, labels))


def choose_threshold(probabilities: Probabilities, labels: Labels, weights: Weights) -> float:
    """Return the threshold of the best balanced accuracy, 0.3-0.7.

    Of all thresholds within one standard error of the best, the one nearest 0.5 (Breiman et al. 1984, 3.4.3):
    the differences between them are chance.
    """
    scores = np.array([_balanced_accuracy(labels, probabilities >= at, weights) for at in _THRESHOLDS])
    best = scores.max()
    good = _THRESHOLDS[scores >= best - math.sqrt(best * (1 - best) / len(labels))]
    return float(good[np.argmin(np.abs(good - 0.5))].round(3))


def choose_review_band(
    probabilities: Probabilities,
    labels: Labels,
    sources: npt.NDArray[np.str_],
    *,
    threshold: float,
    review_error: float,
) -> tuple[float, float]:
    """Return the band that takes the fewest images to review and leaves few wrong labels outside it.

    Few on each side of the band, and of each source. A band that lets one label be wrong more often because
    the other has a lower error owes that to the mix of these images, and so does one that lets a hard source
    be wrong more often because of easy ones. Sources of fewer than `MIN_SOURCE` images count as one together,
    because a single mistake would decide for so few.

    Args:
        probabilities: of held-out images, (N,).
        labels: their true classes.
        sources: of each image.
        threshold: from `choose_threshold`.
        review_error: maximum share of wrong labels among the images outside: on a side, and of a source.

    Returns:
        (low, high); 0 or 1, which is everything on that side, where no edge leaves so few.
    """
    below = probabilities < threshold
    wrong = below == (labels == 1)
    groups = [np.ones_like(below), *_groups(sources)]
    low, high = (
        _Side.of(np.abs(probabilities - threshold), its, wrong, groups, _edges(probabilities[its], threshold))
        for its in (below, ~below)
    )
    images = low.images[:, :, None] + high.images[:, None]
    mistakes = low.wrong[:, :, None] + high.wrong[:, None]
    good = (mistakes <= review_error * images).all(0)
    good &= np.logical_and.outer(low.keeps(review_error), high.keeps(review_error))
    best = np.unravel_index(np.where(good, images[0], -1).argmax(), good.shape)
    return low.edge(int(best[0]), 0.0), high.edge(int(best[1]), 1.0)


def _groups(sources: npt.NDArray[np.str_]) -> list[npt.NDArray[np.bool_]]:
    """Return the images of each source, and those of small ones together, if they are enough."""
    names, counts = np.unique(sources, return_counts=True)
    large = names[counts >= MIN_SOURCE]
    small = ~np.isin(sources, large)
    return [sources == name for name in large] + [small] * bool(small.sum() >= MIN_SOURCE)


@dataclass(frozen=True, slots=True)
class _Side:
    """A side of the band: candidate edges and, beyond each, images and wrong labels of each group.

    `edges` begin at the threshold. Counts are int64 (groups, edges + 1), the first group all images; the last
    column is of the band that takes the whole side.
    """

    edges: npt.NDArray[np.float64]
    images: npt.NDArray[np.int64]
    wrong: npt.NDArray[np.int64]

    @classmethod
    def of(
        cls,
        distances: npt.NDArray[np.float64],
        its: npt.NDArray[np.bool_],
        wrong: npt.NDArray[np.bool_],
        groups: list[npt.NDArray[np.bool_]],
        edges: npt.NDArray[np.float64],
    ) -> _Side:
        """Count `its` images, which have `distances` from the threshold, where the edges begin."""
        # An image lies outside the first edges, up to its own distance.
        place = np.searchsorted(np.abs(edges - edges[0]), distances, side="right")

        def count(chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
            return np.asarray(chosen.sum() - np.bincount(place[chosen], minlength=len(edges) + 1).cumsum())

        return cls(
            edges,
            np.stack([count(group & its) for group in groups]),
            np.stack([count(group & its & wrong) for group in groups]),
        )

    def keeps(self, review_error: float) -> npt.NDArray[np.bool_]:
        """Return for each edge whether few of all images beyond it are wrong."""
        return np.asarray(self.wrong[0] <= review_error * self.images[0])

    def edge(self, at: int, end: float) -> float:
        """Return an edge, or the end of the scale if nothing lies beyond it."""
        return float(self.edges[at]) if self.images[0, at] else end


def _edges(side: Probabilities, threshold: float) -> npt.NDArray[np.float64]:
    """Return candidate edges of the band on a side, float64 (E,), from the threshold on outwards."""
    quantiles = np.quantile(side, np.linspace(0, 1, _EDGES)) if len(side) else np.array([threshold])
    # Rounded: people read the manifest, and the fourth digit of a probability has no meaning.
    edges = np.clip(quantiles.round(4), quantiles.min(), quantiles.max())
    return np.array(sorted({threshold, *edges.tolist()}, key=lambda edge: abs(edge - threshold)))


def _loss(logits: Logits, labels: Labels, temperature: float, weights: Weights | None = None) -> float:
    scaled = np.asarray(logits, np.float64) / temperature
    return float(np.average(np.logaddexp(0.0, np.where(labels == 1, -scaled, scaled)), weights=weights))


def _balanced_accuracy(labels: Labels, said: npt.NDArray[np.bool_], weights: Weights) -> float:
    right = said == (labels == 1)
    recalls = [np.average(right[labels == label], weights=weights[labels == label]) for label in (0, 1)]
    return float(sum(recalls) / 2)
