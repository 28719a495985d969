"""A model read as suits the place where it works: the same weights, a new threshold and review band."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

from core.model.engine import LiteRtEngine, Weights
from core.model.manifest import MANIFEST_NAME, ModelManifest, load_manifest
from trainer.card import CARD_NAME, render_card
from trainer.dataset import ImageSet
from trainer.errors import OutputError
from trainer.evaluate import recalibrated

REVIEW_ERROR: Final = 0.02
"""Largest share of wrong labels on each side of the review band, on the images calibrated on."""

_SUFFIX: Final = "-calibrated"


def check_folder(out: Path) -> None:
    """Look whether a model folder can be written to `out`.

    Raises:
        OutputError: it exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty; name a new folder for the model.")


def write_recalibrated(model: Path, images: ImageSet, out: Path) -> list[str]:
    """Copy a model folder to `out`, with both its models calibrated on labelled images.

    Its version ends in "-calibrated", so that results tell which of both made them.

    Args:
        model: the folder.
        images: labelled, of the place where it is to work.
        out: new or empty.

    Returns:
        What was chosen, a line for each model.

    Raises:
        DatasetError: the images are too few.
        OutputError: `out` cannot be written.
    """
    manifest = load_manifest(model)
    read, line = _read(model, "float", images)
    update, lines = {**read, "version": manifest.version.removesuffix(_SUFFIX) + _SUFFIX}, [line]
    if manifest.int8 is not None:
        read, line = _read(model, "int8", images)
        update["int8"] = manifest.int8.model_copy(update=read)
        lines.append(line)
    sources = sorted(set(images.sources.tolist()))
    update["training"] = {**manifest.training, "calibrated_on": {"sources": sources, "images": len(images)}}
    _write(model, manifest.model_copy(update=update), out)
    return [*lines, f"calibrated model: {out}; its card still has the figures of before"]


def _read(model: Path, weights: Weights, images: ImageSet) -> tuple[dict[str, Any], str]:
    found = recalibrated(LiteRtEngine(model, weights=weights), images, review_error=REVIEW_ERROR)
    line = (
        f"{weights}: temperature {found.temperature:.3f}, threshold {found.threshold:.3f}, "
        f"review between {found.review_band[0]:.3f} and {found.review_band[1]:.3f}"
    )
    return {name: getattr(found, name) for name in ("temperature", "threshold", "review_band")}, line


def _write(model: Path, manifest: ModelManifest, out: Path) -> None:
    try:
        shutil.copytree(model, out, dirs_exist_ok=True)
        text = manifest.model_dump_json(indent=1) + "\n"
        (out / MANIFEST_NAME).write_text(text, encoding="utf-8")
        (out / CARD_NAME).write_text(render_card(manifest), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"The model cannot be written to {out} ({error.strerror}).") from error
