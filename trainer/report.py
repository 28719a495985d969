"""Evaluation report as one HTML file: figures, charts, and the most confident mistakes."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from core.model.manifest import Metric
from trainer.errors import OutputError
from trainer.evaluate import Evaluation, Metrics
from trainer.metrics import RESAMPLES, Curve, Labels, Probabilities, percent, reliability, roc_curve

MISTAKES: Final = 24
"""Number of mistakes in the report, the most confident first."""

_BARS: Final = 40  # of the histogram of probabilities
_CURVE_POINTS: Final = 400  # more points would not be visible

_SETS: Final = {
    "test": "Test images",
    "test_without_leaked": "Without leaked images",
}


@dataclass(frozen=True, slots=True)
class _Mistake:
    """One misclassified image, as the page shows it."""

    name: str
    true: str
    said: str
    probability: float
    image: str


def check_place(path: Path) -> None:
    """Check before the evaluation that a report can be written to `path`.

    Raises:
        OutputError: it is a folder, or its folder is missing or cannot be written to.
    """
    if path.is_dir() or not path.absolute().parent.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise OutputError(
            f"The report cannot be written to {path}; name a file in a folder you can write to."
        )


def write_report(evaluation: Evaluation, path: Path) -> None:
    """Write `render`'s page to `path`, replacing it in one step.

    Raises:
        OutputError: the file cannot be written.
    """
    page = render(evaluation)
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(page, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"The report {path} cannot be written ({error.strerror}).") from error


def render(evaluation: Evaluation) -> str:
    """Return the page, without scripts and external files."""
    environment = Environment(
        loader=PackageLoader("trainer", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    labels, probabilities = evaluation.images.labels, evaluation.probabilities
    manifest = evaluation.manifest
    return environment.get_template("report.html").render(
        manifest=manifest,
        resamples=RESAMPLES,
        sets=_sets(evaluation.metrics),
        kinds=evaluation.kinds,
        figures=[name for name in evaluation.metrics["test"] if name != "images"],
        unreadable=evaluation.images.unreadable,
        confusion=confusion(labels, probabilities, manifest.threshold),
        roc=_polyline(roc_curve(labels, probabilities)),
        bins=reliability(labels, probabilities),
        histogram=_histogram(labels, probabilities),
        mistakes=_mistakes(evaluation),
    )


def _sets(metrics: Metrics) -> list[tuple[str, Mapping[str, Metric]]]:
    """Return title and figures of each set of test images, and of each source if there are several."""
    titles = _SETS | {name: name.removeprefix("test/") for name in metrics if name.startswith("test/")}
    return [(title, metrics[name]) for name, title in titles.items() if name in metrics]


def confusion(labels: Labels, probabilities: Probabilities, threshold: float) -> list[list[int]]:
    """Return counts by true class (rows) and predicted class (columns)."""
    said = probabilities >= threshold
    return [[int(np.sum((labels == true) & (said == column))) for column in (0, 1)] for true in (0, 1)]


def surest_mistakes(labels: Labels, probabilities: Probabilities, threshold: float) -> list[int]:
    """Return the indexes of up to `MISTAKES` misclassified images, the most confident first."""
    wrong = np.flatnonzero((probabilities >= threshold) != (labels == 1))
    sureness = np.abs(probabilities[wrong] - (labels[wrong] == 1))
    return [int(at) for at in wrong[np.argsort(-sureness, kind="stable")][:MISTAKES]]


def _mistakes(evaluation: Evaluation) -> list[_Mistake]:
    images, manifest = evaluation.images, evaluation.manifest
    return [
        _Mistake(
            name=images.names[at],
            true=manifest.labels[images.labels[at]],
            said=manifest.labels[1 - images.labels[at]],
            probability=abs(float(evaluation.probabilities[at]) - float(images.labels[at] == 1)),
            image=_data_address(images.pixels[at]),
        )
        for at in surest_mistakes(images.labels, evaluation.probabilities, manifest.threshold)
    ]


def _data_address(pixels: npt.NDArray[np.uint8]) -> str:
    """Return the model's input, uint8 (128, 128, 3), as a data URL."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _histogram(labels: Labels, probabilities: Probabilities) -> list[tuple[float, float, float]]:
    """Return (left edge, height of biodegradable, height of non_biodegradable), heights 0-1."""
    edges = np.linspace(0, 1, _BARS + 1)
    counts = np.stack([np.histogram(probabilities[labels == label], edges)[0] for label in (0, 1)])
    # Square roots: nearly all images lie in the first and last bar, but the other bars matter.
    heights = np.sqrt(counts) / max(float(np.sqrt(counts.max())), 1.0)
    return [(float(edges[at]), float(heights[0, at]), float(heights[1, at])) for at in range(_BARS)]


def _polyline(curve: Curve) -> str:
    """Return the points of an SVG polyline in a square of 100 units, y upwards."""
    chosen = np.unique(np.linspace(0, len(curve.x) - 1, _CURVE_POINTS).round().astype(np.int64))
    return " ".join(f"{100 * curve.x[at]:.2f},{100 - 100 * curve.y[at]:.2f}" for at in chosen)
