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
from trainer.blend import blend, fit_blend
from trainer.calibrate import calibrate
from trainer.checkpoint import CHECKPOINT_NAME, Position, restore, save
from trainer.config import TrainConfig
from trainer.dataset import ImageFile, ImageSet, balanced, decode_files, has_split, read_files
from trainer.device import device
from trainer.errors import DatasetError, OutputError, WeightsError
from trainer.evaluate import LEAKED_KEY, evaluate_test, measure_held_out, short, table
from trainer.export import PARITY_IMAGES, publish, temporary_beside, with_metrics, write_model, writing
from trainer.fold import folded
from trainer.network import (
    Model,
    build_backbone,
    build_student,
    check_layer,
    describe_weights,
    read_classifier,
    set_head,
)
from trainer.progress import Reporter
from trainer.teacher import build_teacher, prior, teach

Mask = npt.NDArray[np.bool_]
"""bool (N,): which of N images."""

AUDIT_NAME: Final = "audit.json"
_TEACHER_NAME: Final = "teacher.npy"

_ROOM: Final = 256 * 2**20
"""Bytes that a run needs on disk: two checkpoints of 60 MB, the teacher's logits and 40 MB of model files."""

_MIN_VALIDATION: Final = 2  # images; one of each class is the least that calibration can use


@dataclass(frozen=True)
class Knowledge:
    """Where ImageNet's knowledge comes from: files of the backbone's classifier and of the teacher, or neither."""

    classifier: Path | None = None
    teacher: Path | None = None


@dataclass(frozen=True)
class Data:
    """The images of a run after the audit.

    `files` are those trained on, `train` the same decoded at `data.cache_side`, to crop from; `train_plain`, the same images, `held_out` and `test` at
    128 px, as the worker sees them. `held_out` is "validation", images of the kinds that are trained on, and
    "unseen", images of kinds that are not, if the configuration asks for them.
    """

    files: list[ImageFile]
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
    source_weights: Sequence[float] | None = None,
    knowledge: Knowledge = Knowledge(),
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
        source_weights: one a source, how much each of its images counts; all alike without.
        knowledge: what it learns from besides the labels.
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
    network = build_student(backbone, dropout=config.fine_tune.dropout)
    config = _prepare_knowledge(network, knowledge, config, began_with)

    data = _load(sources, source_weights, config, reporter)
    _write_audit(work, data.audit)

    lesson = _lesson(data, knowledge, config, work, resume=resume, reporter=reporter)
    run, position = _fit(network, data, lesson, config, work, began_with, resume=resume, reporter=reporter)
    about = {"weights": began_with, "device": runs_on} | _about_training(position, config)
    if knowledge.teacher is not None:
        about["blend"] = _blend(run, data, reporter)
    manifest = _export(run.best, data, about, config, out=out, audit=work / AUDIT_NAME, reporter=reporter)
    shutil.rmtree(work)
    return manifest


def _prepare_knowledge(
    network: Model, knowledge: Knowledge, config: TrainConfig, began_with: dict[str, str]
) -> TrainConfig:
    """Set the classifier, check the teacher and note both in `began_with`; return the configuration of both."""
    if knowledge.classifier is not None:
        network.get_layer("classes").set_weights(read_classifier(knowledge.classifier))
        began_with["classifier_sha256"] = describe_weights(knowledge.classifier)["sha256"]
    if knowledge.teacher is not None:
        build_teacher(knowledge.teacher, config.knowledge.side)
        began_with |= {f"teacher_{key}": value for key, value in describe_weights(knowledge.teacher).items()}
        return config
    if knowledge.classifier is not None:
        raise WeightsError("A classifier alone teaches nothing: name a --teacher as well, or neither.")
    nothing = config.knowledge.model_copy(update={"classes": 0.0, "prior": 0.0})
    return config.model_copy(update={"knowledge": nothing})


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


def _load(
    sources: Sequence[Path],
    source_weights: Sequence[float] | None,
    config: TrainConfig,
    reporter: Reporter,
) -> Data:
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
    return Data(files, cached, plain.take(trained), held_out, test, findings, _fingerprint(plain, test))


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
            plain.names,
            plain.labels,
            findings.groups,
            plain.sources,
            share=settings.unseen_share,
            seed=config.seed,
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
    lesson: fit.Lesson,
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
        labels = data.train_plain.labels
        set_head(network, *fit.fit_head(features, labels, lesson.weights, config.head, seed=config.seed))
        if lesson.prior is not None:
            set_head(network, *fit.fit_linear(features, lesson.prior), name="prior")
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
            lesson,
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


def _lesson(
    data: Data,
    knowledge: Knowledge,
    config: TrainConfig,
    work: Path,
    *,
    resume: bool,
    reporter: Reporter,
) -> fit.Lesson:
    counts = data.train.weights if data.train.weights is not None else np.ones(len(data.train))
    weights = balanced(data.train.labels, counts).astype(np.float32)
    if knowledge.teacher is None:
        return fit.Lesson(weights)
    path = work / _TEACHER_NAME
    if resume and path.is_file():
        classes = np.load(path)
    else:
        with reporter.bar("teacher", len(data.files)) as update:
            classes = teach(
                knowledge.teacher,
                [file.data for file in data.files],
                side=config.knowledge.side,
                threads=config.data.decode_processes,
                on_images=lambda count: update(count, ""),
            )
        np.save(path, classes)
    return fit.Lesson(weights, prior(classes), classes)


def _blend(run: fit.Run, data: Data, reporter: Reporter) -> dict[str, float]:
    """Blend the heads of the best network on unseen kinds; return what the manifest says of it."""
    images = data.held_out.get("unseen", data.held_out["validation"])
    shares = fit_blend(fit.opinions(run.best, images.pixels), images.labels)
    blend(run.best, shares)
    entry = dict(zip(("head", "prior", "offset"), shares, strict=True))
    entry |= fit.validate(run.best, data.held_out)
    reporter.line(f"with {shares[1]:.2f} of the prior: {_held_out_line(entry)}")
    return entry


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
