"""The end of a run: the trained network becomes a model folder, calibrated, compared and measured."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from core.model.engine import Engine, LiteRtEngine
from core.model.manifest import ModelManifest
from trainer import fit
from trainer.calibrate import Calibration, calibrate
from trainer.compare import MAX_ROC_AUC_LOSS, MIN_AGREEMENT
from trainer.config import TrainConfig
from trainer.dataset import ImageSet
from trainer.evaluate import (
    LEAKED_KEY,
    Metrics,
    evaluate_test,
    left_out,
    logits_of,
    measure_held_out,
    short,
    table,
)
from trainer.export import (
    PARITY_IMAGES,
    publish,
    temporary_beside,
    with_metrics,
    write_model,
    writing,
)
from trainer.fake_quant import measure
from trainer.load import Data
from trainer.network import Model
from trainer.progress import Reporter
from trainer.qat import finish
from trainer.quantize import RANGE_IMAGES, add_int8, remove_int8, to_int8_tflite


def ship(
    served: Model,
    data: Data,
    about: dict[str, Any],
    config: TrainConfig,
    *,
    began: float,
    out: Path,
    audit: Path,
    reporter: Reporter,
) -> ModelManifest:
    """Write the model folder `out` from a trained network.

    Args:
        served: of `trainer.bn_folding.folded`.
        data: of the run.
        about: for the manifest, how it was trained.
        config: of the run.
        began: when the run began, by `time.monotonic`, for the manifest's `total_seconds`.
        out: the folder; it appears when all is done.
        audit: the file of findings, which goes with it.
        reporter: shows the figures.

    Raises:
        ParityError: the exported graphs differ from the network.
        OutputError: files cannot be written.
    """
    chosen = _chosen(data)
    calibration = _calibrate(fit.logits(served, chosen.pixels), chosen, config)
    int8, about_int8 = _int8(served, data, config, reporter)
    held_out_pixels = np.concatenate([images.pixels for images in data.held_out.values()])
    with writing(out), temporary_beside(out) as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        manifest = write_model(
            folder,
            served,
            calibration,
            int8=int8,
            data=_about_data(data),
            training=about | about_int8,
            parity_pixels=_parity_pixels(held_out_pixels, data.train_plain.pixels),
        )
        engine = LiteRtEngine(folder)
        metrics = _measure(engine, data)
        manifest = _with_int8(folder, manifest, data, config, reporter)
        logits = logits_of(engine, chosen.pixels)
        found: dict[str, Any] = {
            "source_left_out": left_out(logits, chosen, review_error=config.calibrate.review_error),
            "total_seconds": round(time.monotonic() - began),
        }
        manifest = manifest.model_copy(update={"training": manifest.training | found})
        manifest = with_metrics(folder, manifest, metrics)
        shutil.copy(audit, folder / audit.name)
        publish(folder, out)
    for line in table(metrics):
        reporter.line(line)
    reporter.line(f"model {manifest.model_id} in {out}")
    return manifest


def _chosen(data: Data) -> ImageSet:
    """Return the images that the model is calibrated on."""
    return data.held_out[_chosen_name(data)]


def _chosen_name(data: Data) -> str:
    return "unseen" if "unseen" in data.held_out else "validation"


def _calibrate(logits: npt.NDArray[Any], images: ImageSet, config: TrainConfig) -> Calibration:
    return calibrate(logits, images.labels, images.sources, review_error=config.calibrate.review_error)


def _int8(served: Model, data: Data, config: TrainConfig, reporter: Reporter) -> tuple[bytes, dict[str, Any]]:
    """Return the 8-bit model of a network, and for the manifest how it was finished."""
    began = time.monotonic()
    ranges = measure(served, _range_pixels(data.train_plain.pixels, config.seed))
    with reporter.bar("8 bits", config.quantize.steps) as update:
        finished = finish(
            served,
            data.train_plain.pixels,
            ranges,
            config.quantize,
            seed=config.seed,
            on_step=lambda error: update(1, f"logits differ by {error:.3f}"),
        )
    seconds = round(time.monotonic() - began)
    return to_int8_tflite(finished, ranges), {"quantize_seconds": seconds}


def _with_int8(
    folder: Path, manifest: ModelManifest, data: Data, config: TrainConfig, reporter: Reporter
) -> ModelManifest:
    """Calibrate and measure the 8-bit model; leave it out if it is not near enough to the float model."""
    manifest, compared = add_int8(
        folder, manifest, data.held_out.values(), _chosen(data), review_error=config.calibrate.review_error
    )
    reporter.line(
        f"8 bits: {compared.agreement:.2%} of held-out images labelled as by the float model, "
        f"logits differ by {compared.logit_difference:.3f}, ROC AUC lower by {compared.roc_auc_loss:.4f}"
    )
    if manifest.int8 is None or not compared.good_enough:
        reporter.line(f"the 8-bit model is left out: allowed are {MIN_AGREEMENT:.1%} and {MAX_ROC_AUC_LOSS}")
        return remove_int8(folder, manifest)
    metrics = _measure(LiteRtEngine(folder, weights="int8"), data)
    return manifest.model_copy(update={"int8": manifest.int8.model_copy(update={"metrics": metrics})})


def _measure(engine: Engine, data: Data) -> Metrics:
    # Things lie on a belt at any angle.
    turned = {f"{_chosen_name(data)}_turned": _chosen(data).turned()}
    metrics = measure_held_out(engine, data.held_out | turned)
    if data.test is not None:
        metrics |= evaluate_test(engine, data.test).metrics
    return metrics


def _range_pixels(pixels: npt.NDArray[np.uint8], seed: int) -> npt.NDArray[np.uint8]:
    """Return training images of all sources."""
    return pixels[np.random.default_rng(seed).permutation(len(pixels))[:RANGE_IMAGES]]


def _parity_pixels(*sets: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return `PARITY_IMAGES` images: those of the sets, and of small sets copies that are shifted."""
    pixels = np.concatenate(sets)[:PARITY_IMAGES]
    copies = math.ceil(PARITY_IMAGES / len(pixels))
    shifted = [np.roll(pixels, 16 * copy, axis=2) for copy in range(copies)]  # pixels
    return np.concatenate(shifted)[:PARITY_IMAGES]


def _about_data(data: Data) -> dict[str, Any]:
    report = data.audit.report
    test_digests = data.test.digests if data.test is not None else ()
    return {
        "layout": "TRAIN/{O,R}, TEST/{O,R}",
        "sha256_of_names_and_digests": data.digest,
        "counts": report.counts,
        "unreadable": len(report.unreadable),
        "exact_duplicate_groups": len(report.exact_duplicates),
        "near_duplicate_groups": len(report.near_duplicates),
        "conflicting_pairs": len(report.conflicting_labels),
        "train_images_dropped": len(report.dropped),
        "train_images_used": len(data.train),
        "sources": dict(Counter(data.train.sources.tolist())),
        **{f"{name}_images": len(images) for name, images in data.held_out.items()},
        LEAKED_KEY: [
            short(digest) for digest, out in zip(test_digests, data.audit.leaked, strict=True) if out
        ],
    }
