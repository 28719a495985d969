"""Images of a run: read, audited, decoded, and split into training and held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from trainer.audit import Audit, audit, unseen_mask, validation_mask
from trainer.config import TrainConfig
from trainer.dataset import ImageFile, ImageSet, decode_files, fingerprint, has_split, read_files
from trainer.errors import DatasetError
from trainer.progress import Reporter

Mask = npt.NDArray[np.bool_]
"""bool (N,): a selection of N images."""

_MIN_VALIDATION: Final = 2  # images; calibration needs one of each class


@dataclass(frozen=True)
class Data:
    """Images of a run after the audit.

    `files` are those trained on, `train` the same decoded at `data.cache_side`, to crop from; `train_plain`,
    the same images, `held_out` and `test` at 128 px, as the worker sees them. `held_out` is "validation",
    of the kinds that are trained on, and, if the configuration asks for it, "unseen", of kinds that are not.
    """

    files: list[ImageFile]
    train: ImageSet
    train_plain: ImageSet
    held_out: dict[str, ImageSet]
    test: ImageSet | None
    audit: Audit
    digest: str


def load(
    sources: Sequence[Path],
    source_weights: Sequence[float] | None,
    config: TrainConfig,
    reporter: Reporter,
) -> Data:
    """Read, audit and decode the images of a run.

    Args:
        sources: folders or tar archives in the Kaggle layout.
        source_weights: one a source, how much each of its images counts; all alike without.
        config: what is held out, and the side of the images.
        reporter: shows progress.

    Raises:
        DatasetError: as `read_files` and `decode_files`, or a class has none to train or validate on.
    """
    train_files = read_files(sources, "TRAIN", source_weights)
    test_files = read_files(sources, "TEST") if has_split(sources, "TEST") else []
    plain = _decode(train_files, config, reporter, "decode TRAIN")
    test = _decode(test_files, config, reporter, "decode TEST") if test_files else None
    findings = audit(plain, test)
    for line in findings.report.lines():
        reporter.line(line)

    masks, trained = _held_out(plain, findings, config)
    for purpose, chosen in (*masks.items(), ("training", trained)):
        if len(np.unique(plain.labels[chosen])) < _MIN_VALIDATION:
            raise DatasetError(f"Too few TRAIN images: {purpose} has none of one class after the audit.")
    names = {name for name, chosen in zip(plain.names, trained, strict=True) if chosen}
    files = [file for file in train_files if file.name in names]
    cached = _decode(files, config, reporter, "decode for crops", side=config.data.cache_side)
    held_out = {name: plain.take(chosen) for name, chosen in masks.items()}
    digest = fingerprint(*(images for images in (plain, test) if images is not None))
    return Data(files, cached, plain.take(trained), held_out, test, findings, digest)


def _held_out(plain: ImageSet, findings: Audit, config: TrainConfig) -> tuple[dict[str, Mask], Mask]:
    """Return the masks of the held-out sets by name, and the mask of the training images."""
    settings = config.data
    unseen = np.zeros(len(plain), np.bool_)
    if settings.unseen_share:
        unseen = unseen_mask(
            plain.names,
            plain.labels,
            findings.groups,
            plain.sources,
            share=settings.unseen_share,
            seed=config.seed,
            fold=settings.unseen_fold,
        )
    seen = np.flatnonzero(~unseen)
    validation = np.zeros(len(plain), np.bool_)
    validation[seen] = validation_mask(
        plain.labels[seen], findings.groups[seen], share=settings.validation_share, seed=config.seed
    )
    masks = {"validation": validation & findings.keep}
    if settings.unseen_share:
        masks["unseen"] = unseen & findings.keep
    return masks, findings.keep & ~unseen & ~validation


def _decode(
    files: Sequence[ImageFile], config: TrainConfig, reporter: Reporter, title: str, *, side: int = 128
) -> ImageSet:
    with reporter.bar(title, len(files)) as update:
        return decode_files(
            files, side=side, processes=config.data.decode_processes, progress=lambda: update(1, "")
        )
