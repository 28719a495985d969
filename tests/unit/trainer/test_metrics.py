"""The figures agree with values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.metrics import expected_calibration_error, figures, measure, roc_auc

# Predicted at 0.5: 0 0 1 0 1 1; right: yes, yes, no, no, yes, yes.
LABELS = np.array([0, 0, 0, 1, 1, 1])
PROBABILITIES = np.array([0.1, 0.2, 0.7, 0.4, 0.8, 0.9])
FOUND = figures(LABELS, PROBABILITIES, threshold=0.5, review_band=(0.3, 0.75))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("accuracy", 4 / 6),
        ("balanced_accuracy", 2 / 3),
        ("precision_biodegradable", 2 / 3),
        ("recall_biodegradable", 2 / 3),
        ("f1_biodegradable", 2 / 3),
        ("precision_non_biodegradable", 2 / 3),
        ("recall_non_biodegradable", 2 / 3),
        ("roc_auc", 8 / 9),  # of 9 pairs only (0.4, 0.7) is the wrong way round
        ("review_share", 2 / 6),  # 0.7 and 0.4
        ("error_outside_review", 0.0),  # both wrong ones are inside the band
    ],
)
def test_figures(name: str, expected: float) -> None:
    """Each figure of six images equals a count on paper."""
    assert FOUND[name] == pytest.approx(expected)


def test_unequal_classes() -> None:
    """Balanced accuracy weighs the classes alike, accuracy weighs the images alike."""
    values = figures(
        np.array([0, 0, 0, 1]), np.array([0.1, 0.1, 0.1, 0.1]), threshold=0.5, review_band=(0.5, 0.5)
    )
    assert values["accuracy"] == 0.75
    assert values["balanced_accuracy"] == 0.5
    assert values["precision_non_biodegradable"] == 0.0
    assert values["error_outside_review"] == 0.25


def test_ties_count_half_in_roc_auc() -> None:
    """A model that says the same of everything is worth a coin."""
    assert roc_auc(np.array([0, 1, 0, 1]), np.full(4, 0.3)) == 0.5


def test_the_threshold_itself_is_non_biodegradable() -> None:
    """At the threshold the manifest says non_biodegradable, and so do the figures."""
    assert figures(np.array([1]), np.array([0.4]), threshold=0.4, review_band=(0.4, 0.4))["accuracy"] == 1.0


def test_calibration_error() -> None:
    """Ten images at 0.8, six of them right, give an error of 0.2."""
    labels = np.array([1] * 6 + [0] * 4)
    error = expected_calibration_error(labels, np.full(10, 0.8), np.ones(10, np.int64))
    assert error == pytest.approx(0.2)


def test_intervals_enclose_the_value() -> None:
    """The interval lies around the value and is about as wide as the binomial one."""
    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 200)
    probabilities = np.where(rng.random(400) < 0.9, labels * 0.8 + 0.1, 0.9 - labels * 0.8)
    accuracy = measure(labels, probabilities, threshold=0.5, review_band=(0.5, 0.5), resamples=500)[
        "accuracy"
    ]
    assert accuracy.low is not None
    assert accuracy.high is not None
    assert accuracy.low < accuracy.value < accuracy.high
    assert accuracy.high - accuracy.low == pytest.approx(2 * 1.96 * np.sqrt(0.9 * 0.1 / 400), rel=0.3)


def test_measuring_twice_gives_the_same() -> None:
    """The draws follow from the seed, so the manifest and `evaluate` agree to the last digit."""
    first, second = (
        measure(LABELS, PROBABILITIES, threshold=0.5, review_band=(0.3, 0.75), resamples=50) for _ in range(2)
    )
    assert first == second
    assert first["images"].value == 6
