"""One head from two, with the shares that fit images of unseen kinds."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from trainer import fit
from trainer.blend import Opinions, blend, fit_blend
from trainer.network import build_student, empty_backbone, set_head

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_the_blend_is_the_head_that_was_fitted() -> None:
    """Its logits are the two outputs' in the shares asked for."""
    keras.utils.set_random_seed(1)
    network = build_student(empty_backbone(), dropout=0.1)
    rng = np.random.default_rng(1)
    set_head(network, rng.normal(0, 1, 1280).astype(np.float32), 0.5)
    set_head(network, rng.normal(0, 1, 1280).astype(np.float32), -0.5, name="prior")
    pixels = rng.integers(0, 256, (3, 128, 128, 3), dtype=np.uint8)
    opinions = fit.opinions(network, pixels)
    blend(network, (2.0, 0.5, -1.0))
    expected = 2 * opinions[:, 0] + 0.5 * opinions[:, 1] - 1
    np.testing.assert_allclose(fit.logits(network, pixels), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("truth", "kept"), [(1.0, True), (-1.0, False)])
def test_a_prior_counts_only_if_it_helps(truth: float, *, kept: bool) -> None:
    """A helpful prior gets a share; a misleading one gets none, not a negative share."""
    rng = np.random.default_rng(2)
    opinions = rng.normal(0, 2, (4000, 2)).astype(np.float32)
    odds = opinions[:, 0] + truth * opinions[:, 1] + 1
    labels = (rng.random(4000) < 1 / (1 + np.exp(-odds))).astype(np.int64)
    head, prior, _ = fit_blend(Opinions(opinions, labels))
    assert head > 0.3
    assert (prior > 0.5) if kept else (prior == 0)


def test_unseen_kinds_choose_the_shares_and_both_sets_the_offset() -> None:
    """Runs of kinds that want all logits higher by chance have half of the say, however many they are."""
    rng = np.random.default_rng(3)

    def drawn(count: int, prior: float, offset: float) -> Opinions:
        logits = rng.normal(0, 2, (count, 2)).astype(np.float32)
        odds = logits[:, 0] + prior * logits[:, 1] + offset
        return Opinions(logits, (rng.random(count) < 1 / (1 + np.exp(-odds))).astype(np.int64))

    unseen, seen = drawn(8000, 0.5, 1.0), drawn(2000, 0.0, -1.0)
    alone, both = fit_blend(unseen), fit_blend(unseen, seen)
    assert both[:2] == alone[:2] == pytest.approx((1.0, 0.5), abs=0.1)
    assert alone[2] > 0.3
    assert both[2] == pytest.approx(0, abs=0.2)
