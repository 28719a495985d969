"""The trained network as files: `.keras`, `.tflite`, SavedModel, and the manifest to read them by."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from core.images import SIDE
from core.model.engine import LiteRtEngine
from core.model.manifest import (
    INT8_NAME,
    MANIFEST_NAME,
    SAVED_MODEL_NAME,
    TFLITE_NAME,
    FileEntry,
    InputEntry,
    Metric,
    ModelManifest,
    file_entry,
)
from trainer.calibrate import Calibration, to_probabilities
from trainer.card import CARD_NAME, render_card
from trainer.errors import OutputError, ParityError
from trainer.network import ARCHITECTURE, Model

KERAS_NAME: Final = "model.keras"

PARITY_IMAGES: Final = 500
"""Images on which the exported graph is compared with the trained one."""

MAX_DIFFERENCE: Final = 0.005
"""Largest difference of a calibrated probability between the trained and the exported graph."""

_PACKAGES: Final = ("tensorflow", "tensorflow-cpu", "keras", "ai-edge-litert", "numpy", "pillow")


def exportable(network: Model) -> Model:
    """Return the network with the worker's input: uint8 (N, 128, 128, 3) to float32 logits (N,)."""
    pixels = keras.Input((SIDE, SIDE, 3), dtype="uint8", name="pixels")
    # The cast stands inside the graph, as the scaling does: no program can scale differently.
    return keras.Model(pixels, network(keras.ops.cast(pixels, "float32")), name="wastestream_model")


def to_tflite(model: Model) -> bytes:
    """Convert an `exportable` model: float16 weights, float32 arithmetic, any batch size.

    The function is frozen first: converted directly, a Keras 3 function keeps its variables, which
    LiteRT would have to initialise.
    """

    def classify(pixels: Any) -> Any:
        return model(pixels, training=False)

    any_batch = tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="pixels")
    frozen = convert_variables_to_constants_v2(
        tf.function(classify, autograph=False).get_concrete_function(any_batch)
    )
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]
    return bytes(converter.convert())


def write_saved_model(model: Model, folder: Path) -> None:
    """Write an `exportable` model as a SavedModel with one signature, `serving_default`: pixels to logits."""

    def classify(pixels: Any) -> dict[str, Any]:
        return {"logits": model(pixels, training=False)}

    any_batch = tf.TensorSpec((None, SIDE, SIDE, 3), tf.uint8, name="pixels")
    served = tf.function(classify, input_signature=[any_batch], autograph=False, jit_compile=False)
    tf.saved_model.save(model, folder, signatures={"serving_default": served})


def write_model(
    folder: Path,
    network: Model,
    calibration: Calibration,
    *,
    int8: bytes,
    data: Mapping[str, Any],
    training: Mapping[str, Any],
    parity_pixels: npt.NDArray[np.uint8],
) -> ModelManifest:
    """Write `.keras`, both `.tflite`, SavedModel and a manifest without metrics; compare the graphs.

    Args:
        folder: an empty folder.
        network: of `trainer.bn_folding.folded`.
        calibration: how its logits are read.
        int8: the 8-bit model, of `trainer.quantize`.
        data: for the manifest, what it was trained on.
        training: for the manifest, how.
        parity_pixels: uint8 (N, 128, 128, 3), what both graphs are run on.

    Raises:
        ParityError: an exported graph's probabilities differ by more than `MAX_DIFFERENCE`.
    """
    model = exportable(network)
    model.save(folder / KERAS_NAME)
    (folder / TFLITE_NAME).write_bytes(to_tflite(model))
    (folder / INT8_NAME).write_bytes(int8)
    write_saved_model(model, folder / SAVED_MODEL_NAME)
    created = datetime.now(UTC)
    manifest = ModelManifest(
        name="wastestream",
        version=created.strftime("%Y.%m.%d-%H%M"),
        created=created,
        architecture=ARCHITECTURE,
        input=InputEntry(height=SIDE, width=SIDE),
        temperature=calibration.temperature,
        threshold=calibration.threshold,
        review_band=calibration.review_band,
        files=_entries(folder),
        data=dict(data),
        training=dict(training),
        versions=_versions(),
        metrics={},
    )
    write_manifest(folder, manifest)
    difference = parity(folder, parity_pixels)
    manifest = manifest.model_copy(
        update={"training": {**training, "parity": {"images": len(parity_pixels), "largest": difference}}}
    )
    write_manifest(folder, manifest)
    return manifest


def with_metrics(
    folder: Path, manifest: ModelManifest, metrics: Mapping[str, Mapping[str, Metric]]
) -> ModelManifest:
    """Write the manifest again with the metrics of the exported files, and the model card."""
    manifest = manifest.model_copy(
        update={"metrics": {name: dict(values) for name, values in metrics.items()}}
    )
    write_manifest(folder, manifest)
    (folder / CARD_NAME).write_text(render_card(manifest), encoding="utf-8")
    return manifest


def parity(folder: Path, pixels: npt.NDArray[np.uint8]) -> float:
    """Return the largest difference of a probability between `.keras`, read back, and either other graph.

    Raises:
        ParityError: it is more than `MAX_DIFFERENCE`.
    """
    engine = LiteRtEngine(folder)
    temperature = engine.manifest.temperature

    def probabilities(graph: Callable[[Any], Any]) -> npt.NDArray[np.float64]:
        logits = [np.asarray(graph(pixels[at : at + 64])) for at in range(0, len(pixels), 64)]
        return to_probabilities(np.concatenate(logits), temperature)

    stored = keras.models.load_model(folder / KERAS_NAME)
    served = tf.saved_model.load(folder / SAVED_MODEL_NAME).signatures["serving_default"]
    ours = probabilities(lambda batch: stored(batch, training=False))
    others = (
        probabilities(engine.logits),
        probabilities(lambda batch: served(pixels=tf.constant(batch))["logits"]),
    )
    difference = max(float(np.abs(ours - theirs).max()) for theirs in others)
    if not difference <= MAX_DIFFERENCE:  # written so that NaN is rejected too
        raise ParityError(
            f"The exported model differs from the trained one by {difference:.4f} in a probability on "
            f"{len(pixels)} images (allowed: {MAX_DIFFERENCE}); nothing was exported."
        )
    return difference


def write_manifest(folder: Path, manifest: ModelManifest) -> None:
    """Write `manifest.json`, replacing it in one step."""
    partial = folder / f"{MANIFEST_NAME}.partial"
    partial.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST_NAME)


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Say in one sentence that the files of `out` could not be written.

    Raises:
        OutputError: as on a full disk; the checkpoint is still there.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.message
        raise OutputError(
            f"The model cannot be written to {out} ({reason}). Make room; the same command with --resume "
            "then only has to write it."
        ) from error


def temporary_beside(out: Path) -> tempfile.TemporaryDirectory[str]:
    """Return a folder on the same file system as `out`, so that `publish` is one rename."""
    out.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent)


def publish(folder: Path, out: Path) -> None:
    """Rename the finished `folder` to `out`, which may exist only if it is empty.

    Raises:
        OutputError: something came into `out` meanwhile.
    """
    folder.chmod(0o755)  # tempfile's folders are private; a model is not
    try:
        folder.replace(out)
    except OSError as error:
        raise OutputError(f"The model cannot be moved to {out} ({error.strerror}).") from error


def _entries(folder: Path) -> dict[str, FileEntry]:
    """Describe every file in the folder; its manifest is not written yet."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_entry(path) for path in paths}


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:  # TensorFlow comes as one of two packages, by platform.
            continue
    return versions
