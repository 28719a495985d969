"""One training run from files to a model folder, top to bottom."""

from __future__ import annotations

import json
import os
import shutil
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from core.model.manifest import ModelManifest
from trainer import fit
from trainer.audit import Audit
from trainer.blend import Opinions, blend, fit_blend
from trainer.bn_folding import folded
from trainer.checkpoint import CHECKPOINT_NAME, Position, restore, save
from trainer.config import TrainConfig
from trainer.dataset import balanced
from trainer.device import device
from trainer.errors import OutputError, WeightsError
from trainer.export import writing
from trainer.load import Data, load
from trainer.network import (
    IMAGENET,
    Model,
    build_backbone,
    build_student,
    check_layer,
    describe_weights,
    read_classifier,
    set_head,
)
from trainer.progress import Reporter
from trainer.ship import ship
from trainer.teacher import build_teacher, prior, teach

AUDIT_NAME: Final = "audit.json"
_TEACHER_NAME: Final = "teacher.npz"

_SPACE: Final = 256 * 2**20
"""Disk space of a run, bytes: two checkpoints of 60 MB, the teacher's logits and 40 MB of model files."""


@dataclass(frozen=True)
class Knowledge:
    """For distillation the backbone's ImageNet classifier, a file or "imagenet", and a teacher's weights."""

    classifier: str | Path | None = None
    teacher: Path | None = None


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
        source_weights: weight of each image, one a source; equal by default.
        knowledge: files for distillation.
        resume: continue the interrupted run of the same `out`.
        reporter: shows progress.

    Raises:
        WastestreamError: a subclass in `trainer.errors`.
    """
    began = time.monotonic()
    reporter = reporter or Reporter()
    out = out.absolute()
    if not out.name or out.name == "..":
        raise OutputError(f"{out} is no name for a new folder; name another --out.")
    work = out.with_name(f"{out.name}.training")
    _check_output(out, work, resume=resume)
    runs_on = device()  # First: TensorFlow accepts no GPU settings after its first use of the GPU.
    reporter.line(f"training on {runs_on}")
    keras.utils.set_random_seed(config.seed)
    # Before the images: a wrong path or layer should be reported at once.
    backbone, began_with = build_backbone(weights), describe_weights(weights)
    check_layer(backbone, config.fine_tune.trainable_after)
    network = build_student(backbone, dropout=config.fine_tune.dropout)
    if weights == IMAGENET and knowledge.teacher is not None:
        knowledge = Knowledge(knowledge.classifier or IMAGENET, knowledge.teacher)
    config = _prepare_knowledge(network, knowledge, config, began_with)

    data = load(sources, source_weights, config, reporter)
    _write_audit(work, data.audit)

    lesson = _lesson(data, knowledge, config, work, began_with, reporter=reporter)
    state, position, began = _fit(
        network, data, lesson, config, work, began_with, began=began, resume=resume, reporter=reporter
    )
    about = {"weights": began_with, "device": runs_on, "resumed": resume} | _about_training(position, config)
    if knowledge.teacher is not None:
        about["blend"] = _blend(state, data, reporter)
    manifest = ship(
        folded(state.average),
        data,
        about,
        config,
        began=began,
        out=out,
        audit=work / AUDIT_NAME,
        reporter=reporter,
    )
    shutil.rmtree(work)
    return manifest


def _prepare_knowledge(
    network: Model, knowledge: Knowledge, config: TrainConfig, began_with: dict[str, str]
) -> TrainConfig:
    """Set the classifier, check the teacher, note both in `began_with`; return the configuration for them."""
    if knowledge.classifier is not None:
        network.get_layer("classes").set_weights(read_classifier(knowledge.classifier))
        began_with |= {
            f"classifier_{key}": value for key, value in describe_weights(knowledge.classifier).items()
        }
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
    if shutil.disk_usage(parent).free < _SPACE:
        raise OutputError(
            f"Less than {_SPACE // 2**20} MiB are free on the disk of {out}; free some "
            "space, or name another --out."
        )
    if resume and not (work / CHECKPOINT_NAME).is_file():
        raise OutputError(f"There is nothing to resume: no checkpoint in {work}.")
    if not resume and (work / CHECKPOINT_NAME).exists():
        raise OutputError(f"{work} holds an interrupted run; add --resume, or delete that folder.")


def _write_audit(work: Path, audit: Audit) -> None:
    try:
        work.mkdir(parents=True, exist_ok=True)
        text = json.dumps(audit.report.as_dict(), indent=1) + "\n"
        (work / AUDIT_NAME).write_text(text, encoding="utf-8")
    except OSError as error:
        reason = error.strerror
        raise OutputError(f"{work} cannot be written ({reason}); free some space and train again.") from error


def _fit(  # noqa: PLR0917 - as `train` has them
    network: Model,
    data: Data,
    lesson: fit.Lesson,
    config: TrainConfig,
    folder: Path,
    weights: dict[str, str],
    *,
    began: float,
    resume: bool,
    reporter: Reporter,
) -> tuple[fit.TrainingState, Position, float]:
    """Return also when the run began; earlier by the time of the runs that a resumed one continues."""
    checkpoint = folder / CHECKPOINT_NAME
    if not resume:
        with reporter.bar("features", len(data.train_plain)) as update:
            features = fit.features(network, data.train_plain.pixels, lambda count: update(count, ""))
        labels = data.train_plain.labels
        set_head(network, *fit.fit_head(features, labels, lesson.weights, config.head, seed=config.seed))
        if lesson.prior is not None:
            set_head(network, *fit.fit_linear(features, lesson.prior), name="prior")
    state = fit.start(network, config.fine_tune)
    position = Position()

    def save_run() -> None:
        position.total_seconds = time.monotonic() - began
        save(checkpoint, position, state.variables, config=config, data_digest=data.digest, weights=weights)

    if resume:
        position = restore(
            checkpoint, state.variables, config=config, data_digest=data.digest, weights=weights
        )
        began -= position.total_seconds
        reporter.line(f"resumed in epoch {position.epoch + 1}, step {position.step + 1}")
    else:
        validation = fit.validate(state.average, data.held_out)
        reporter.line(f"head on frozen features: {_held_out_line(validation)}")
        save_run()
    sides = config.sides
    work = [len(data.train) * config.cost(epoch) for epoch in range(len(sides))]
    with reporter.bar("fine-tune", round(sum(work)), done=round(sum(work[: position.epoch]))) as update:
        fit.fine_tune(
            state,
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
    return state, position, began


def _lesson(
    data: Data,
    knowledge: Knowledge,
    config: TrainConfig,
    work: Path,
    began_with: dict[str, str],
    *,
    reporter: Reporter,
) -> fit.Lesson:
    counts = data.train.weights if data.train.weights is not None else np.ones(len(data.train))
    weights = balanced(data.train.labels, counts).astype(np.float32)
    if knowledge.teacher is None:
        return fit.Lesson(weights)
    # Kept until the run is complete: a resumed run needs no second pass of the teacher.
    path = work / _TEACHER_NAME
    asked = f"{began_with['teacher_sha256']} {config.knowledge.side} {data.digest} {len(data.files)}"
    classes = _stored(path, asked)
    if classes is None:
        with reporter.bar("teacher", len(data.files)) as update:
            classes = teach(
                knowledge.teacher,
                [file.data for file in data.files],
                side=config.knowledge.side,
                threads=config.data.decode_processes,
                on_images=lambda count: update(count, ""),
            )
        with writing(path):
            np.savez(path, classes=classes, asked=np.array(asked))
    return fit.Lesson(weights, prior(classes), classes)


def _stored(path: Path, asked: str) -> npt.NDArray[np.float16] | None:
    """Return the teacher's logits that were stored for the same images, if there are any."""
    try:
        with np.load(path) as stored:
            return np.asarray(stored["classes"]) if str(stored["asked"]) == asked else None
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # none, or one that a full disk cut off


def _blend(state: fit.TrainingState, data: Data, reporter: Reporter) -> dict[str, float]:
    """Blend the heads of the best network on held-out images; return the manifest's entry about it."""
    said = {
        name: Opinions(fit.opinions(state.average, images.pixels), images.labels)
        for name, images in data.held_out.items()
    }
    shares = (
        fit_blend(said["unseen"], said["validation"]) if "unseen" in said else fit_blend(said["validation"])
    )
    blend(state.average, shares)
    entry = dict(zip(("head", "prior", "offset"), shares, strict=True))
    entry |= fit.validate(state.average, data.held_out)
    reporter.line(f"with {shares[1]:.2f} of the prior: {_held_out_line(entry)}")
    return entry


def _held_out_line(entry: dict[str, float]) -> str:
    names = [key.removesuffix("_accuracy") for key in entry if key.endswith("_accuracy")]
    return ", ".join(
        f"{name} loss {entry[f'{name}_loss']:.4f} and accuracy {entry[f'{name}_accuracy']:.4f}"
        for name in names
    )


def _about_training(position: Position, config: TrainConfig) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "history": position.history,
        "best_epoch": position.best.get("epoch", 0),
        "fine_tune_seconds": round(position.seconds),
    }
