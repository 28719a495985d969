"""Evaluation of a model folder on TEST images, with the workers' own decoder and engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.model.engine import Engine, LiteRtEngine, Weights
from core.model.manifest import Metric, ModelManifest
from trainer.calibrate import Logits, calibrate, to_probabilities
from trainer.dataset import CLASS_FOLDERS, ImageSet, decode_files, read_files
from trainer.kinds import Kind, by_kind
from trainer.metrics import figures, measure
from trainer.progress import Reporter

LEAKED_KEY: Final = "leaked_test_images"
"""Key in the manifest's `data`: digests, as `short`, of test images with a duplicate in TRAIN."""

_LEFT_OUT_FIGURES: Final = ("accuracy", "ece", "review_share", "error_outside_review")

_CALL: Final = 256  # images between two updates of the progress bar

Metrics = dict[str, dict[str, Metric]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's predictions on labelled images, and their metrics.

    `probabilities` is float64 (N,), calibrated, of `non_biodegradable`; `metrics` holds the figures of
    `trainer.metrics.measure` by image set.
    """

    manifest: ModelManifest
    images: ImageSet
    probabilities: npt.NDArray[np.float64]
    metrics: Metrics

    @property
    def kinds(self) -> list[Kind]:
        """Accuracy by kind of object."""
        predicted = self.probabilities >= self.manifest.threshold
        return by_kind(self.images.names, predicted == (self.images.labels == 1))


def short(digest: str) -> str:
    """Return the first 16 hex digits of a file's SHA-256: enough to tell a few thousand files apart."""
    return digest[:16]


def evaluate(
    model: Path,
    sources: Sequence[Path],
    *,
    processes: int = 2,
    threads: int = 1,
    weights: Weights = "float",
    reporter: Reporter | None = None,
) -> Evaluation:
    """Measure the model in a folder on the TEST images of `sources`.

    Args:
        model: a folder with `model.tflite` and its manifest.
        sources: folders or tar archives with `TEST/O` and `TEST/R`.
        processes: for decoding.
        threads: of the engine.
        weights: float or int8.
        reporter: shows progress.

    Returns:
        Metrics of the set "test", of "test_without_leaked" if the manifest names leaked images in it, and of
        "test/SOURCE" if there are several sources.

    Raises:
        ModelError: the folder has no model.
        DatasetError: as `read_files` and `decode_files`.
    """
    reporter = reporter or Reporter()
    engine = LiteRtEngine(model, threads=threads, weights=weights)
    files = read_files(sources, "TEST")
    with reporter.bar("decode", len(files)) as update:
        images = decode_files(files, processes=processes, progress=lambda: update(1, ""))
    for line in images.unreadable:
        reporter.line(f"skipped, unreadable: {line}")
    with reporter.bar("classify", len(images)) as update:
        return evaluate_test(engine, images, on_images=lambda count: update(count, ""))


def evaluate_test(
    engine: Engine, test: ImageSet, *, on_images: Callable[[int], None] = lambda _: None
) -> Evaluation:
    """Measure "test" and "test_without_leaked" on decoded images."""
    probabilities = classify(engine, test.pixels, on_images=on_images)
    leaked = set(engine.manifest.data.get(LEAKED_KEY, ()))
    clean = np.array([short(digest) not in leaked for digest in test.digests], np.bool_)
    manifest = engine.manifest
    metrics = {"test": _measure(manifest, test.labels, probabilities)}
    if 0 < clean.sum() < len(clean):
        metrics["test_without_leaked"] = _measure(manifest, test.labels[clean], probabilities[clean])
    metrics |= _of_sources(manifest, "test", test, probabilities)
    return Evaluation(manifest, test, probabilities, metrics)


def measure_held_out(engine: Engine, held_out: Mapping[str, ImageSet]) -> Metrics:
    """Measure each set of decoded images under its name, and as "NAME/SOURCE" if it has several sources."""
    metrics: Metrics = {}
    for name, images in held_out.items():
        metrics |= measure_logits(engine.manifest, name, images, logits_of(engine, images.pixels))
    return metrics


def measure_logits(manifest: ModelManifest, name: str, images: ImageSet, logits: Logits) -> Metrics:
    """Measure logits, read as the manifest says, under `name`, and as "NAME/SOURCE" of several sources."""
    probabilities = to_probabilities(logits, manifest.temperature)
    return {
        name: _measure(manifest, images.labels, probabilities),
        **_of_sources(manifest, name, images, probabilities),
    }


def left_out(logits: Logits, images: ImageSet, *, review_error: float) -> dict[str, dict[str, float]]:
    """Return leave-one-source-out figures of the calibration: each source's, calibrated on the others.

    Skips a source if a class has no images without it.

    Args:
        logits: of the images, shape (N,).
        images: held out from training.
        review_error: as `trainer.calibrate.choose_review_band`.
    """
    by_source_figures = {}
    for source in np.unique(images.sources).tolist():
        its = images.sources == source
        rest = images.take(~its)
        if len(np.unique(rest.labels)) < len(CLASS_FOLDERS):
            continue
        chosen = calibrate(logits[~its], rest.labels, rest.sources, review_error=review_error)
        values = figures(
            images.labels[its],
            to_probabilities(logits[its], chosen.temperature),
            threshold=chosen.threshold,
            review_band=chosen.review_band,
        )
        by_source_figures[source] = {"images": float(its.sum())} | {
            name: values[name] for name in _LEFT_OUT_FIGURES
        }
    return by_source_figures


def classify(
    engine: Engine, pixels: npt.NDArray[np.uint8], *, on_images: Callable[[int], None] = lambda _: None
) -> npt.NDArray[np.float64]:
    """Return calibrated probabilities of `non_biodegradable`, float64 (N,)."""
    return to_probabilities(logits_of(engine, pixels, on_images), engine.manifest.temperature)


def logits_of(
    engine: Engine, pixels: npt.NDArray[np.uint8], on_images: Callable[[int], None] = lambda _: None
) -> npt.NDArray[np.float32]:
    """Return the logits of images, float32 (N,)."""
    logits = []
    for at in range(0, len(pixels), _CALL):
        logits.append(engine.logits(pixels[at : at + _CALL]))
        on_images(len(logits[-1]))
    return np.concatenate(logits)


def as_json(metrics: Metrics) -> dict[str, Any]:
    """Return the figures in the manifest's format."""
    return {
        name: {key: metric.model_dump() for key, metric in values.items()} for name, values in metrics.items()
    }


def table(metrics: Metrics) -> list[str]:
    """Return the figures as lines for a person, shares in per cent with their 95 % interval."""
    lines = []
    for name, values in metrics.items():
        lines.append(f"{name} ({values['images'].value:,.0f} images)")
        lines += [f"  {key:<32}{_percent(metric)}" for key, metric in values.items() if key != "images"]
    return lines


def _of_sources(
    manifest: ModelManifest, name: str, images: ImageSet, probabilities: npt.NDArray[np.float64]
) -> Metrics:
    sources = np.unique(images.sources).tolist()
    if len(sources) < 2:  # noqa: PLR2004 - a single source equals the set
        return {}
    masks = {source: images.sources == source for source in sources}
    return {
        f"{name}/{source}": _measure(manifest, images.labels[its], probabilities[its])
        for source, its in masks.items()
    }


def _percent(metric: Metric) -> str:
    text = f"{100 * metric.value:6.2f} %"
    if metric.low is None or metric.high is None:
        return text
    return f"{text}  ({100 * metric.low:.2f} to {100 * metric.high:.2f})"


def _measure(
    manifest: ModelManifest, labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> dict[str, Metric]:
    return measure(labels, probabilities, threshold=manifest.threshold, review_band=manifest.review_band)
