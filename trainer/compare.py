"""Comparison of the 8-bit model with the float model that it is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

from core.model.manifest import Int8Entry
from trainer.calibrate import Logits, calibrate
from trainer.dataset import ImageSet
from trainer.metrics import Labels, roc_auc

MIN_AGREEMENT: Final = 0.995
"""Least share of held-out images that must get the same label from the float and the 8-bit model."""

MAX_ROC_AUC_LOSS: Final = 0.001
"""Most that the 8-bit model may lose of the float model's area under the ROC curve."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Differences of the 8-bit and the float model on images: `core.model.manifest.Int8Entry`."""

    agreement: float
    roc_auc_loss: float
    logit_difference: float  # standard deviation

    @property
    def good_enough(self) -> bool:
        """Whether the 8-bit model may be shipped."""
        return self.agreement >= MIN_AGREEMENT and self.roc_auc_loss <= MAX_ROC_AUC_LOSS


def compare(labels: Labels, logits: Logits, int8: Logits, *, cut: float) -> Comparison:
    """Compare both models' logits of images, shapes (N,).

    Args:
        labels: the true classes.
        logits: of the float model.
        int8: of the 8-bit model.
        cut: the logit at which either's label changes.
    """
    return Comparison(
        float(np.mean((logits >= cut) == (int8 >= cut))),
        roc_auc(labels, np.asarray(logits, np.float64)) - roc_auc(labels, np.asarray(int8, np.float64)),
        float(np.std(logits - int8)),
    )


def int8_entry(
    logits: Logits, images: ImageSet, compared: Comparison, *, cut: float, review_error: float
) -> Int8Entry:
    """Calibrate the 8-bit model on images; return its section of the manifest, without metrics.

    Args:
        logits: of the 8-bit model, shape (N,).
        images: N images that were not trained on.
        compared: for the section.
        cut: the logit at which the float model's label changes; so does this one's.
        review_error: as `trainer.calibrate.choose_review_band`.
    """
    calibration = calibrate(logits, images.labels, images.sources, review_error=review_error, cut=cut)
    return Int8Entry(
        **asdict(calibration),
        metrics={},
        agreement=compared.agreement,
        roc_auc_loss=compared.roc_auc_loss,
    )
