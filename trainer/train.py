"""One training run from files to a model folder, top to bottom."""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from core.engine import LiteRtEngine
from core.manifest import ModelManifest
from trainer import fit
from trainer.audit import Audit, audit, unseen_mask, validation_mask
from trainer.calibrate import calibrate
from trainer.checkpoint import CHECKPOINT_NAME, Position, restore, save
from trainer.config import TrainConfig
from trainer.dataset import ImageFile, ImageSet, decode_files, has_split, read_files
from trainer.device import device
from trainer.errors import DatasetError, OutputError
from trainer.evaluate import LEAKED_KEY, evaluate_test, measure_held_out, short, table
from trainer.export import PARITY_IMAGES, publish, temporary_beside, with_metrics, write_model, writing
from trainer.fold import folded
from trainer.mix import mix
from trainer.network import (
    Model,
    build_backbone,
    build_network,
    check_layer,
    describe_weights,
    set_head,
)
from trainer.progress import Reporter

Mask = npt.NDArray[np.bool_]
"""bool (N,): which of N images."""

AUDIT_NAME: Final = "audit.json"

_ROOM: Final = 256 * 2**20
"""Bytes that a run needs on disk: two checkpoints of 54 MB and 35 MB of model files, doubled."""

_MIN_VALIDATION: Final = 2  # images; one of each class is the least that calibration can use


@dataclass(frozen=True)
class Data:
    """The images of a run after the audit.

    `train` is at `data.cache_side`, to crop from; `train_plain`, the same images, `held_out` and `test` at
    128 px, as the worker sees them. `held_out` is "validation", images of the kinds that are trained on, and
    "unseen", images of kinds that are not, if the configuration asks for them.
    """

    train: ImageSet
    train_plain: ImageSet
    held_out: dict[str, ImageSet]
    test: ImageSet | None
    audit: Audit
    digest: str


def train(
    sources: Sequence[Path],
    weights: str,
    out: Path,
    config: TrainConfig,
    *,
    resume: bool = False,
    reporter: Reporter | None = None,
) -> ModelManifest:
    """Train on the TRAIN images of `sources` and write a model folder.

    Checkpoint and audit lie in `OUT.training` beside `out`, which itself appears only when complete.

    Args:
        sources: folders or tar archives in the Kaggle layout; TEST images among them are measured.
        weights: "imagenet" or a file.
        out: the model folder; must not exist, or be empty.
        config: see `default.toml`.
        resume: continue the interrupted run of the same `out`.
        reporter: shows progress.

    Raises:
        WastestreamError: each subclass in `trainer.errors` says what for.
    """
    reporter = reporter or Reporter()
    out = out.absolute()
    if not out.name or out.name == "..":
        raise OutputError(f"{out} is no name for a new folder; name another --out.")
    work = out.with_name(f"{out.name}.training")
    _check_output(out, work, resume=resume)
    runs_on = device()  # First of all: TensorFlow takes no setting of a GPU once it has used one.
    reporter.line(f"training on {runs_on}")
    keras.utils.set_random_seed(config.seed)
    # Before the images: a wrong path or layer should be told at once.
    backbone, began_with = build_backbone(weights), describe_weights(weights)
    check_layer(backbone, config.fine_tune.trainable_after)

    data = _load(sources, config, reporter)
    _write_audit(work, data.audit)

    network = build_network(backbone, dropout=config.fine_tune.dropout)
    run, position = _fit(network, data, config, work, began_with, resume=resume, reporter=reporter)
    about = {"weights": began_with, "device": runs_on} | _about_training(position, config)
    about |= _mix(run, data, config, reporter)
    manifest = _export(run.best, data, about, config, out=out, audit=work / AUDIT_NAME, reporter=reporter)
    shutil.rmtree(work)
    return manifest


def _check_output(out: Path, work: Path, *, resume: bool) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} exists and is not empty; name a new folder for the model.")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OutputError(f"{parent} is no folder that can be written to; name another --out.")
    if shutil.disk_usage(parent).free < _ROOM:
        raise OutputError(
            f"Less than {_ROOM // 2**20} MiB are free where {out} is to be; make room, or name another --out."
        )
    if resume and not (work / CHECKPOINT_NAME).is_file():
        raise OutputError(f"There is nothing to resume: no checkpoint in {work}.")
    if not resume and (work / CHECKPOINT_NAME).exists():
        raise OutputError(f"{work} holds an interrupted run; add --resume, or delete that folder.")


def _write_audit(work: Path, found: Audit) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.report.as_dict(), indent=1) + "\n"
        (work / AUDIT_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror
        raise OutputError(f"{work} cannot be written ({reason}); make room and train again.") from error


def _load(sources: Sequence[Path], config: TrainConfig, reporter: Reporter) -> Data:
    train_files = read_files(sources, "TRAIN")
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
    cached = _decode(
        [file for file in train_files if file.name in names],
        config,
        reporter,
        "decode for crops",
        side=config.data.cache_side,
    )
    held_out = {name: plain.take(chosen) for name, chosen in masks.items()}
    return Data(cached, plain.take(trained), held_out, test, findings, _fingerprint(plain, test))


def _fingerprint(*sets: ImageSet | None) -> str:
    """Return a digest of what a run depends on: every image's bytes, and its name, which holds the label."""
    images = [found for found in sets if found is not None]
    lines = sorted(
        f"{name} {digest}\n"
        for found in images
        for name, digest in zip(found.names, found.digests, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _held_out(plain: ImageSet, findings: Audit, config: TrainConfig) -> tuple[dict[str, Mask], Mask]:
    """Return the masks of the sets that are held out, by name, and that of the images to train on."""
    settings = config.data
    unseen = np.zeros(len(plain), np.bool_)
    if settings.unseen_share:
        unseen = unseen_mask(
            plain.names, plain.labels, findings.groups, share=settings.unseen_share, seed=config.seed
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


def _fit(
    network: Model,
    data: Data,
    config: TrainConfig,
    folder: Path,
    weights: dict[str, str],
    *,
    resume: bool,
    reporter: Reporter,
) -> tuple[fit.Run, Position]:
    checkpoint = folder / CHECKPOINT_NAME
    if not resume:
        with reporter.bar("features", len(data.train_plain)) as update:
            features = fit.features(network, data.train_plain.pixels, lambda count: update(count, ""))
        set_head(network, *fit.fit_head(features, data.train_plain.labels, config.head, seed=config.seed))
    run = fit.start(network, config.fine_tune)
    position = Position()

    def save_run() -> None:
        save(checkpoint, position, run.variables, config=config, data_digest=data.digest, weights=weights)

    if resume:
        position = restore(checkpoint, run.variables, config=config, data_digest=data.digest, weights=weights)
        reporter.line(f"resumed in epoch {position.epoch + 1}, step {position.step + 1}")
    else:
        found = fit.validate(run.average, data.held_out)
        reporter.line(f"head on frozen features: {_held_out_line(found)}")
        save_run()
    sides = config.sides
    work = [len(data.train) * config.cost(epoch) for epoch in range(len(sides))]
    with reporter.bar("fine-tune", round(sum(work)), done=round(sum(work[: position.epoch]))) as update:
        fit.fine_tune(
            run,
            position,
            data.train,
            data.held_out,
            config,
            on_step=lambda epoch, count, cost, loss: update(
                count * cost, f"epoch {epoch + 1}/{len(sides)}, loss {loss:.3f}"
            ),
            on_epoch=lambda entry: reporter.line(
                f"epoch {entry['epoch']:.0f}/{len(sides)} at {entry['side']:.0f} px: "
                f"loss {entry['loss']:.4f}, {_held_out_line(entry)}, {position.seconds:,.0f} s"
            ),
            save=save_run,
        )
        if len(position.history) < len(sides):
            reporter.line(
                f"{len(sides) - len(position.history)} epochs left out: they would bring nothing better"
            )
    return run, position


def _mix(run: fit.Run, data: Data, config: TrainConfig, reporter: Reporter) -> dict[str, Any]:
    """Mix the weights, if any were fine-tuned; return what the manifest says of it."""
    if not config.sides:
        return {}
    found = mix(
        run,
        data.train_plain.pixels,
        data.held_out,
        config.mix,
        seed=config.seed,
        on_mix=lambda entry: reporter.line(f"{entry['share']:.0%} fine-tuned: {_held_out_line(entry)}"),
    )
    reporter.line(f"exported: {found[0]['share']:.0%} of the fine-tuned weights")
    return {"mix": found}


def _held_out_line(entry: dict[str, float]) -> str:
    names = [key.removesuffix("_accuracy") for key in entry if key.endswith("_accuracy")]
    return ", ".join(
        f"{name} loss {entry[f'{name}_loss']:.4f} and accuracy {entry[f'{name}_accuracy']:.4f}"
        for name in names
    )


def _export(
    network: Model,
    data: Data,
    about: dict[str, Any],
    config: TrainConfig,
    *,
    out: Path,
    audit: Path,
    reporter: Reporter,
) -> ModelManifest:
    served = folded(network)
    pixels = np.concatenate([images.pixels for images in data.held_out.values()])
    labels = np.concatenate([images.labels for images in data.held_out.values()])
    calibration = calibrate(fit.logits(served, pixels), labels, review_error=config.calibrate.review_error)
    parity_pixels = _parity_pixels(pixels, data.train_plain.pixels)
    with writing(out), temporary_beside(out) as temporary:
        folder = Path(temporary) / "model"
        folder.mkdir()
        manifest = write_model(
            folder,
            served,
            calibration,
            data=_about_data(data),
            training=about,
            parity_pixels=parity_pixels,
        )
        engine = LiteRtEngine(folder)
        metrics = measure_held_out(engine, data.held_out)
        if data.test is not None:
            metrics |= evaluate_test(engine, data.test).metrics
        manifest = with_metrics(folder, manifest, metrics)
        shutil.copy(audit, folder / AUDIT_NAME)
        publish(folder, out)
    for line in table(metrics):
        reporter.line(line)
    reporter.line(f"model {manifest.model_id} in {out}")
    return manifest


def _parity_pixels(*sets: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return `PARITY_IMAGES` images: those of the sets, and of small sets copies that are shifted."""
    found = np.concatenate(sets)[:PARITY_IMAGES]
    copies = math.ceil(PARITY_IMAGES / len(found))
    shifted = [np.roll(found, 16 * copy, axis=2) for copy in range(copies)]  # pixels
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
        **{f"{name}_images": len(images) for name, images in data.held_out.items()},
        LEAKED_KEY: [
            short(digest) for digest, out in zip(test_digests, data.audit.leaked, strict=True) if out
        ],
    }


def _about_training(position: Position, config: TrainConfig) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "history": position.history,
        "best_epoch": position.best.get("epoch", 0),
        "fine_tune_seconds": round(position.seconds),
    }
