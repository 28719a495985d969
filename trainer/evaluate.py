"""Measures a model folder on TEST images with the worker's own decode and engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from core.model.engine import Engine, LiteRtEngine, Weights
from core.model.manifest import Metric, ModelManifest
from trainer.calibrate import Calibration, by_source, calibrate, to_probabilities
from trainer.dataset import ImageSet, decode_files, read_files
from trainer.errors import DatasetError
from trainer.kinds import Kind, by_kind
from trainer.metrics import figures, measure
from trainer.progress import Reporter

LEAKED_KEY: Final = "leaked_test_images"
"""In the manifest's `data`: digests, as `short`, of test images of which TRAIN held a duplicate."""

MIN_CALIBRATION: Final = 50
"""Least images of each class that a calibration is made from; of fewer, chance decides."""

_LEFT_OUT_FIGURES: Final = ("accuracy", "ece", "review_share", "error_outside_review")

_CALL: Final = 256  # images between two updates of the progress bar

Metrics = dict[str, dict[str, Metric]]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model said of labelled images.

    `probabilities` is float64 (N,), calibrated, of `non_biodegradable`; `metrics` holds the figures of
    `trainer.metrics.measure` by image set.
    """

    manifest: ModelManifest
    images: ImageSet
    probabilities: npt.NDArray[np.float64]
    metrics: Metrics

    @property
    def kinds(self) -> list[Kind]:
        """How it does on each kind of object."""
        said = self.probabilities >= self.manifest.threshold
        return by_kind(self.images.names, said == (self.images.labels == 1))


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
        processes: that decode.
        threads: of the engine.
        weights: which of the folder's models.
        reporter: shows progress.

    Returns:
        Its metrics are those of the sets "test" and, where the manifest names leaked images among
        them, "test_without_leaked"; of several sources, also those of "test/SOURCE".

    Raises:
        ModelError: no model in the folder.
        DatasetError: as `read_files` and `decode_files`.
    """
    reporter = reporter or Reporter()
    engine = LiteRtEngine(model, threads=threads, weights=weights)
    files = read_files(sources, "TEST")
    with reporter.bar("decode", len(files)) as update:
        images = decode_files(files, processes=processes, progress=lambda: update(1, ""))
    for line in images.unreadable:
        reporter.line(f"unreadable, left out: {line}")
    with reporter.bar("classify", len(images)) as update:
        return evaluate_test(engine, images, on_images=lambda count: update(count, ""))


def evaluate_test(
    engine: Engine, test: ImageSet, *, on_images: Callable[[int], None] = lambda _: None
) -> Evaluation:
    """Measure "test" and "test_without_leaked" on decoded images."""
    probabilities = classify(engine, test.pixels, on_images=on_images)
    leaked = set(engine.manifest.data.get(LEAKED_KEY, ()))
    clean = np.array([short(digest) not in leaked for digest in test.digests], np.bool_)
    found = {"test": _measure(engine, test.labels, probabilities)}
    if 0 < clean.sum() < len(clean):
        found["test_without_leaked"] = _measure(engine, test.labels[clean], probabilities[clean])
    found |= _of_sources(engine, "test", test, probabilities)
    return Evaluation(engine.manifest, test, probabilities, found)


def measure_held_out(engine: Engine, held_out: Mapping[str, ImageSet]) -> Metrics:
    """Measure each set of decoded images under its name, and as "NAME/SOURCE" if it has several sources."""
    found: Metrics = {}
    for name, images in held_out.items():
        probabilities = classify(engine, images.pixels)
        found[name] = _measure(engine, images.labels, probabilities)
        found |= _of_sources(engine, name, images, probabilities)
    return found


def left_out(engine: Engine, images: ImageSet, *, review_error: float) -> dict[str, dict[str, float]]:
    """Return how a calibration made without a source does on it, by source: does it hold elsewhere?

    A source without which a class has no images is not left out.

    Args:
        engine: whose logits are read.
        images: held out from training.
        review_error: as `trainer.calibrate.choose_review_band`.
    """
    logits = _logits(engine, images.pixels)
    found = {}
    for source in np.unique(images.sources).tolist():
        its = images.sources == source
        rest = images.take(~its)
        if len(np.unique(rest.labels)) < len(engine.manifest.labels):
            continue
        weights = by_source(rest.labels, rest.sources)
        chosen = calibrate(logits[~its], rest.labels, weights, review_error=review_error)
        values = figures(
            images.labels[its],
            to_probabilities(logits[its], chosen.temperature),
            threshold=chosen.threshold,
            review_band=chosen.review_band,
        )
        found[source] = {"images": float(its.sum())} | {name: values[name] for name in _LEFT_OUT_FIGURES}
    return found


def recalibrated(engine: Engine, images: ImageSet, *, review_error: float) -> Calibration:
    """Choose how the engine's logits are read from labelled images of the place where it is to work.

    Raises:
        DatasetError: a class has fewer than `MIN_CALIBRATION` images.
    """
    for label, name in enumerate(engine.manifest.labels):
        count = int(np.sum(images.labels == label))
        if count < MIN_CALIBRATION:
            raise DatasetError(
                f"{count} images of {name} are too few to calibrate with; label at least {MIN_CALIBRATION}."
            )
    weights = by_source(images.labels, images.sources)
    return calibrate(_logits(engine, images.pixels), images.labels, weights, review_error=review_error)


def classify(
    engine: Engine, pixels: npt.NDArray[np.uint8], *, on_images: Callable[[int], None] = lambda _: None
) -> npt.NDArray[np.float64]:
    """Return calibrated probabilities of `non_biodegradable`, float64 (N,)."""
    return to_probabilities(_logits(engine, pixels, on_images), engine.manifest.temperature)


def as_json(metrics: Metrics) -> dict[str, Any]:
    """Return the figures as the manifest writes them."""
    return {
        name: {key: found.model_dump() for key, found in values.items()} for name, values in metrics.items()
    }


def table(metrics: Metrics) -> list[str]:
    """Return the figures as lines for a person, shares in per cent with their 95 % interval."""
    lines = []
    for name, values in metrics.items():
        lines.append(f"{name} ({values['images'].value:,.0f} images)")
        lines += [f"  {key:<32}{_percent(found)}" for key, found in values.items() if key != "images"]
    return lines


def _logits(
    engine: Engine, pixels: npt.NDArray[np.uint8], on_images: Callable[[int], None] = lambda _: None
) -> npt.NDArray[np.float32]:
    found = []
    for at in range(0, len(pixels), _CALL):
        found.append(engine.logits(pixels[at : at + _CALL]))
        on_images(len(found[-1]))
    return np.concatenate(found)


def _of_sources(
    engine: Engine, name: str, images: ImageSet, probabilities: npt.NDArray[np.float64]
) -> Metrics:
    sources = np.unique(images.sources).tolist()
    if len(sources) < 2:  # noqa: PLR2004 - of one source the set itself says all
        return {}
    masks = {source: images.sources == source for source in sources}
    return {
        f"{name}/{source}": _measure(engine, images.labels[its], probabilities[its])
        for source, its in masks.items()
    }


def _percent(metric: Metric) -> str:
    text = f"{100 * metric.value:6.2f} %"
    if metric.low is None or metric.high is None:
        return text
    return f"{text}  ({100 * metric.low:.2f} to {100 * metric.high:.2f})"


def _measure(
    engine: Engine, labels: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]
) -> dict[str, Metric]:
    manifest = engine.manifest
    return measure(labels, probabilities, threshold=manifest.threshold, review_band=manifest.review_band)
