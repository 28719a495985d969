"""Recalibration for a place of use: the same weights, a new temperature, threshold and review band."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.model.engine import LiteRtEngine, Weights
from core.model.manifest import MANIFEST_NAME, Metric, ModelManifest, load_manifest
from trainer.calibrate import Logits, calibrate, cut_of
from trainer.card import CARD_NAME, render_card
from trainer.compare import MIN_AGREEMENT, compare, int8_entry
from trainer.dataset import CLASS_FOLDERS, ImageSet, fingerprint
from trainer.errors import DatasetError, OutputError
from trainer.evaluate import left_out, logits_of, measure_logits
from trainer.metrics import percent, roc_auc

REVIEW_ERROR: Final = 0.02
"""Maximum share of wrong labels on each side of the review band, and of each source, of these images."""

MIN_ROC_AUC: Final = 0.6
"""Minimum area under the ROC curve of each source; 0.5 is chance, where no temperature helps."""

_MIN_OF_SOURCE: Final = 10  # images of each class for a source's area; of fewer, chance would reject it

MIN_IMAGES: Final = 50
"""Minimum images of each class for a calibration; with fewer it depends on chance."""

SET: Final = "calibration"
"""Name of the calibration images in the manifest's `metrics`."""

Figures = dict[Weights, dict[str, Metric]]
"""Figures of the calibration images, by the weights that classified them."""

_MARK: Final = "-calibrated"
_LONGEST: Final = 20  # characters of the version before the mark: with it they are at most 40


def check_folder(out: Path) -> None:
    """Check that a model folder can be written to `out`.

    Raises:
        OutputError: it exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty; name a new folder for the model.")


def write_recalibrated(model: Path, images: ImageSet, out: Path) -> list[str]:
    """Copy a model folder to `out` with both its models calibrated on labelled images.

    Its version ends in "-calibrated-" and a digest of images and calibration, so that results distinguish the
    models, and those of two places. Figures that hold for the old calibration do not go with it.

    Args:
        model: the folder.
        images: labelled images from the place of use.
        out: new or empty.

    Returns:
        The chosen values and figures of these images before and after, as lines for a person.

    Raises:
        DatasetError: the images are too few, or the model's outputs say nothing of their labels.
        OutputError: `out` cannot be written.
    """
    before = load_manifest(model)
    _check_number(images, before)
    read: list[Weights] = ["float"] if before.int8 is None else ["float", "int8"]
    logits = {each: logits_of(LiteRtEngine(model, weights=each), images.pixels) for each in read}
    _check_order(images, logits["float"])
    figures = {each: measure_logits(_read_by(before, each), SET, images, logits[each])[SET] for each in read}
    manifest = _calibrated(before, images, logits, _about(before, figures, images))
    _write(model, manifest, out)
    return [
        *_lines(before, figures, manifest),
        "figures after it are flattering, because these images chose the calibration: measure it on others",
        f"calibrated model {manifest.version} in {out}",
    ]


def _check_number(images: ImageSet, manifest: ModelManifest) -> None:
    for label, name in enumerate(manifest.labels):
        count = int(np.sum(images.labels == label))
        if count < MIN_IMAGES:
            raise DatasetError(
                f"{count} images of {name} are too few for a calibration; label at least {MIN_IMAGES}."
            )


def _check_order(images: ImageSet, logits: Logits) -> None:
    """Check that the model tells each source's classes apart: a temperature would hide that it does not."""
    for source in np.unique(images.sources).tolist():
        labels, its = images.labels[images.sources == source], logits[images.sources == source]
        if np.bincount(labels, minlength=len(CLASS_FOLDERS)).min() < _MIN_OF_SOURCE:
            continue
        area = roc_auc(labels, np.asarray(its, np.float64))
        if area <= 1 - MIN_ROC_AUC:
            raise DatasetError(
                f"The model says the opposite of the labels of {source} (ROC AUC {area:.2f}); "
                "look whether its folders are swapped: O holds what is biodegradable, R the rest."
            )
        if area < MIN_ROC_AUC:
            raise DatasetError(
                f"The model does not tell the classes of {source} apart (ROC AUC {area:.2f}), which no "
                "calibration mends; look whether its images lie in the right folders, or train with such."
            )


def _calibrated(
    before: ModelManifest, images: ImageSet, logits: dict[Weights, Logits], about: dict[str, Any]
) -> ModelManifest:
    chosen = calibrate(logits["float"], images.labels, images.sources, review_error=REVIEW_ERROR)
    training = {
        **before.training,
        "source_left_out": left_out(logits["float"], images, review_error=REVIEW_ERROR),
        "calibrated_on": about,
    }
    manifest = before.model_copy(update=asdict(chosen) | {"training": training})
    update: dict[str, Any] = {"metrics": measure_logits(manifest, SET, images, logits["float"])}
    if "int8" in logits:
        cut = cut_of(chosen.temperature, chosen.threshold)
        compared = compare(images.labels, logits["float"], logits["int8"], cut=cut)
        entry = int8_entry(logits["int8"], images, compared, cut=cut, review_error=REVIEW_ERROR)
        read = manifest.model_copy(update={"int8": entry}).of_int8()
        metrics = measure_logits(read, SET, images, logits["int8"])
        update["int8"] = entry.model_copy(update={"metrics": metrics})
    manifest = manifest.model_copy(update=update)
    return manifest.model_copy(update={"version": _version(before.version, manifest)})


def _about(before: ModelManifest, figures: Figures, images: ImageSet) -> dict[str, Any]:
    """Return, for the manifest, the images of the calibration and how the model did on them before it."""
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "images": len(images),
        "sources": dict(Counter(images.sources.tolist())),
        "counts": {folder: int(np.sum(images.labels == label)) for folder, label in CLASS_FOLDERS.items()},
        "sha256_of_names_and_digests": fingerprint(images),
        "review_error": REVIEW_ERROR,
        "version_before": before.version,
        "metrics_before": {
            weights: {name: metric.model_dump() for name, metric in values.items()}
            for weights, values in figures.items()
        },
    }


def _version(before: str, manifest: ModelManifest) -> str:
    """Return a version that names the weights' version, and the calibration by a digest."""
    both = [manifest, manifest.of_int8()] if manifest.int8 is not None else [manifest]
    text = json.dumps(
        [
            manifest.training["calibrated_on"]["sha256_of_names_and_digests"],
            *((read.temperature, read.threshold, read.review_band) for read in both),
        ]
    )
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{before.partition(_MARK)[0][:_LONGEST]}{_MARK}-{digest}"


def _read_by(manifest: ModelManifest, weights: Weights) -> ModelManifest:
    return manifest.of_int8() if weights == "int8" else manifest


def _lines(before: ModelManifest, figures: Figures, manifest: ModelManifest) -> list[str]:
    about = manifest.training["calibrated_on"]
    lines = [f"calibrated on {about['images']:,} images of {', '.join(about['sources'])}"]
    for weights in figures:
        after = _read_by(manifest, weights)
        lines += [
            f"{weights}, before: {_line(_read_by(before, weights), figures[weights])}",
            f"{weights}, after: {_line(after, after.metrics[SET])}",
        ]
    if manifest.int8 is not None:
        differ = round((1 - manifest.int8.agreement) * about["images"])
        lines.append(f"int8 labels {differ:,} of these {about['images']:,} images otherwise than float")
        if manifest.int8.agreement < MIN_AGREEMENT:
            lines.append(
                f"that is more than {1 - MIN_AGREEMENT:.1%}: compare both on more images, or let workers run "
                "float (WASTESTREAM_ENGINE=float)"
            )
    return lines


def _line(read: ModelManifest, figures: dict[str, Metric]) -> str:
    return (
        f"temperature {read.temperature:.3f}, threshold {read.threshold:.3f}, "
        f"review between {read.review_band[0]:.3f} and {read.review_band[1]:.3f}: "
        f"{percent(figures['accuracy'])} % right, calibration error {percent(figures['ece'])} %, "
        f"{percent(figures['review_share'])} % to review, "
        f"{percent(figures['error_outside_review'])} % wrong outside it"
    )


def _write(model: Path, manifest: ModelManifest, out: Path) -> None:
    try:
        shutil.copytree(model, out, dirs_exist_ok=True)
        text = manifest.model_dump_json(indent=1) + "\n"
        (out / MANIFEST_NAME).write_text(text, encoding="utf-8")
        (out / CARD_NAME).write_text(render_card(manifest), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The model cannot be written to {out} ({error.strerror}).") from error
