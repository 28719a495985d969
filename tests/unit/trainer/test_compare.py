"""Whether an 8-bit model is near enough to the float model."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.compare import compare

LABELS = np.repeat([0, 1], 500)


@pytest.mark.parametrize(("different", "shipped"), [(5, True), (6, False)])
def test_few_labels_may_differ(*, different: int, shipped: bool) -> None:
    """At most one in two hundred."""
    logits = np.linspace(-5, 5, 1000, dtype=np.float32)
    int8 = logits.copy()
    int8[500 : 500 + different] = -1e-4  # The order stays.
    int8[:500] -= 1
    compared = compare(LABELS, logits, int8, cut=0.0)
    assert compared.agreement == 1 - different / 1000
    assert compared.roc_auc_loss == pytest.approx(0)
    assert compared.good_enough is shipped


@pytest.mark.parametrize(("below", "shipped"), [(240, True), (260, False)])
def test_the_order_must_stay(*, below: int, shipped: bool) -> None:
    """An image that is wrong anyway, and falls further, costs area under the ROC curve and no label."""
    logits = np.where(LABELS == 1, 1.0, np.linspace(-4, -1, 1000)).astype(np.float32)
    logits[999] = -0.5  # wrong in both models
    int8 = logits.copy()
    int8[999] = np.float32(np.sort(logits[:500])[500 - below] - 1e-4)
    compared = compare(LABELS, logits, int8, cut=0.0)
    assert compared.agreement == 1
    assert compared.roc_auc_loss == pytest.approx(below / 250_000)
    assert compared.good_enough is shipped
