"""Temperature, threshold and review band do what their names promise."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest

from core.model.manifest import calibrated
from trainer.calibrate import (
    by_source,
    calibrate,
    choose_review_band,
    choose_threshold,
    cut_of,
    fit_temperature,
    to_probabilities,
)


def one(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.str_]:
    """Return the sources of images that are all of one."""
    return np.full(len(labels), "belt")


def drawn(scale: float, count: int = 20_000) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Logits that are `scale` times too large for how often their labels are 1."""
    rng = np.random.default_rng(5)
    true = rng.normal(0, 2, count)
    return true * scale, (rng.random(count) < 1 / (1 + np.exp(-true))).astype(np.int64)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_a_scale(scale: float) -> None:
    """Logits that are k times too large get the temperature k."""
    assert fit_temperature(*drawn(scale)) == pytest.approx(scale, rel=0.05)


def test_probabilities_are_those_of_the_manifest() -> None:
    """Evaluation and worker compute the same, also for extreme logits."""
    logits = np.array([-1e4, -3.0, 0.0, 0.5, 7.0, 1e4], np.float32)
    expected = [calibrated(float(logit), 1.7) for logit in logits]
    np.testing.assert_allclose(to_probabilities(logits, 1.7), expected, rtol=1e-12)


def test_the_threshold_moves_only_for_a_gain() -> None:
    """Among equally good thresholds it stays at 0.5; to a better one it moves."""
    labels = np.array([0] * 50 + [1] * 50)
    assert choose_threshold(np.where(labels == 1, 0.9, 0.1), labels, np.ones(100)) == 0.5
    assert choose_threshold(np.where(labels == 1, 0.62, 0.58), labels, np.ones(100)) == pytest.approx(
        0.6, abs=0.02
    )


def test_the_review_band_leaves_few_errors_outside() -> None:
    """The band keeps the promised error, and a smaller promise needs a wider band."""
    logits, labels = drawn(1.0, 4000)
    probabilities = to_probabilities(logits, 1.0)
    shares = []
    for allowed in (0.02, 0.05):
        low, high = choose_review_band(
            probabilities, labels, one(labels), threshold=0.5, review_error=allowed
        )
        inside = (probabilities > low) & (probabilities < high)
        wrong = (probabilities >= 0.5) != (labels == 1)
        for side in (probabilities <= low, probabilities >= high):
            assert wrong[side & ~inside].mean() <= allowed
        assert low <= 0.5 <= high
        shares.append(inside.mean())
    assert shares[0] > shares[1]


def test_the_review_band_leaves_few_errors_of_each_source() -> None:
    """Many easy images do not pay for the mistakes on others; a source of a single class counts as well."""
    logits, labels = drawn(1.0, 2000)
    easy = np.repeat([-4.0, 4.0], 10_000)
    boxes = np.repeat([-2.5, 3.0], [10, 190])  # 5 % wrong, and surer than the edge for the others
    labels = np.concatenate([labels, easy > 0, boxes != 0]).astype(np.int64)
    probabilities = to_probabilities(np.concatenate([logits, easy, boxes]), 1.0)
    sources = np.repeat(["hard", "easy", "boxes"], [2000, 20_000, 200])
    wrong = (probabilities >= 0.5) != (labels == 1)

    def errors(names: npt.NDArray[np.str_]) -> dict[str, float]:
        low, high = choose_review_band(probabilities, labels, names, threshold=0.5, review_error=0.02)
        outside = (probabilities <= low) | (probabilities >= high)
        return {source: wrong[outside & (sources == source)].mean() for source in np.unique(sources).tolist()}

    pooled = errors(one(labels))
    assert (pooled["hard"] > 0.1, pooled["boxes"]) == (True, 0.05)
    assert max(errors(sources).values()) <= 0.02


def test_of_such_bands_it_is_the_one_with_the_fewest_images() -> None:
    """No other pair of edges leaves more images outside and as few errors on each side and source."""
    rng = np.random.default_rng(7)
    probabilities = rng.beta(0.5, 0.5, 400).round(2)
    labels = (rng.random(400) < probabilities**1.3).astype(np.int64)
    sources = rng.choice(["a", "b"], 400)
    wrong = (probabilities >= 0.5) != (labels == 1)
    most = 0
    for low, high in itertools.product(np.arange(-1, 50) / 100, np.arange(50, 102) / 100):
        sides = probabilities <= low, probabilities >= high
        outside = sides[0] | sides[1]
        groups = [*sides, outside & (sources == "a"), outside & (sources == "b")]
        if all(wrong[group].sum() <= 0.1 * group.sum() for group in groups):
            most = max(most, int(outside.sum()))
    low, high = choose_review_band(probabilities, labels, sources, threshold=0.5, review_error=0.1)
    assert int(((probabilities <= low) | (probabilities >= high)).sum()) == most > 100


def test_a_mistake_of_a_small_source_does_not_decide() -> None:
    """A camera of twenty images, one of them wrong and sure, leaves the band of the others as it is."""
    logits, labels = drawn(1.0, 2000)
    few = np.repeat([6.0, -6.0], 10)
    probabilities = to_probabilities(np.concatenate([logits, few]), 1.0)
    labels = np.concatenate([labels, few > 0]).astype(np.int64)
    sources = np.repeat(["hall", "new"], [2000, 20])

    def review() -> float:
        low, high = choose_review_band(probabilities, labels, sources, threshold=0.5, review_error=0.02)
        return float(((probabilities > low) & (probabilities < high)).mean())

    before = review()
    labels[2000] = 0
    assert review() == pytest.approx(before, abs=0.02)


def test_a_perfect_model_needs_no_review() -> None:
    """Without errors the band is empty."""
    labels = np.array([0, 0, 1, 1])
    scores = np.array([0.1, 0.2, 0.8, 0.9])
    band = choose_review_band(scores, labels, one(labels), threshold=0.5, review_error=0.02)
    assert band == (0.5, 0.5)


def test_a_hopeless_model_is_reviewed_throughout() -> None:
    """When no band keeps the promise, every image is for a person."""
    labels = np.array([0, 1, 0, 1])
    calibration = calibrate(np.array([2.0, -2.0, 2.0, -2.0]), labels, one(labels), review_error=0.02)
    assert calibration.review_band == (0.0, 1.0)


def test_small_sources_count_as_much_as_large_ones() -> None:
    """Both classes have the same weight, and so have the sources within each."""
    labels = np.array([0] * 90 + [1] * 60)
    sources = np.array(["a"] * 80 + ["b"] * 10 + ["a"] * 60)
    weights = by_source(labels, sources)
    assert weights.mean() == pytest.approx(1)
    assert weights[:80].sum() == pytest.approx(weights[80:90].sum()) == pytest.approx(150 / 4)
    assert weights[90:].sum() == pytest.approx(150 / 2)


def test_a_threshold_suits_all_sources() -> None:
    """One that the many images of one source want, and that is wrong for half of another, is not taken."""
    labels = np.array([0] * 900 + [1] * 900 + [0] * 10 + [1] * 10)
    sources = np.array(["many"] * 1800 + ["few"] * 20)
    logits = np.where(labels == 1, 1.0, -1.0)
    logits[900:1000] = 0.05  # non-biodegradable
    logits[1800:1810] = 0.1  # food
    alike = calibrate(logits, labels, one(labels), review_error=0.02)
    fair = calibrate(logits, labels, sources, review_error=0.02)
    food = [to_probabilities(logits, it.temperature)[1800] >= it.threshold for it in (alike, fair)]
    assert food == [True, False]


def test_a_given_cut_keeps_the_labels() -> None:
    """Temperature and review band fit the logits; the threshold is where the cut comes to lie."""
    logits, labels = drawn(3.0, 4000)
    chosen = calibrate(logits, labels, one(labels), review_error=0.05, cut=0.7)
    assert chosen.temperature == pytest.approx(3.0, rel=0.1)
    assert cut_of(chosen.temperature, chosen.threshold) == pytest.approx(0.7)
    said = to_probabilities(logits, chosen.temperature) >= chosen.threshold
    np.testing.assert_array_equal(said, logits >= 0.7)
    assert chosen.review_band[0] <= chosen.threshold <= chosen.review_band[1]
