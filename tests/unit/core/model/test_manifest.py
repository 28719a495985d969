"""core.model.manifest: reading a model's output, and rejecting an incomplete model folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import ModelError
from core.model.manifest import (
    BIODEGRADABLE,
    MANIFEST_NAME,
    NON_BIODEGRADABLE,
    TFLITE_NAME,
    ModelManifest,
    file_entry,
    load_manifest,
)


def _folder(path: Path, **changes: object) -> Path:
    (path / TFLITE_NAME).write_bytes(b"weights")
    manifest = {
        "name": "test",
        "version": "1.2.3",
        "created": "2026-01-01T00:00:00Z",
        "architecture": "MobileNetV2",
        "input": {"height": 128, "width": 128},
        "temperature": 2.0,
        "threshold": 0.6,
        "review_band": [0.3, 0.7],
        "files": {TFLITE_NAME: file_entry(path / TFLITE_NAME).model_dump()},
        "data": {},
        "training": {},
        "versions": {},
        "metrics": {},
    }
    (path / MANIFEST_NAME).write_text(json.dumps({**manifest, **changes}))
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> ModelManifest:
    """A manifest with temperature 2, threshold 0.6 and review band 0.3-0.7."""
    return load_manifest(_folder(tmp_path))


@pytest.mark.parametrize(
    "case",
    [
        (0.0, BIODEGRADABLE, 0.5, True),  # sigmoid(0) = 0.5, under the threshold, inside the band
        (1.0, NON_BIODEGRADABLE, 0.6224593, True),  # sigmoid(1 / 2)
        (4.0, NON_BIODEGRADABLE, 0.8807971, False),  # sigmoid(4 / 2)
        (-4.0, BIODEGRADABLE, 0.8807971, False),
        (1e9, NON_BIODEGRADABLE, 1.0, False),
        (-1e9, BIODEGRADABLE, 1.0, False),
    ],
)
def test_a_logit_is_calibrated_then_compared(
    manifest: ModelManifest, case: tuple[float, str, float, bool]
) -> None:
    """The temperature divides the logit; threshold and band look at the calibrated probability."""
    logit, label, probability, review = case
    prediction = manifest.predict(logit)
    assert (prediction.label, prediction.review) == (label, review)
    assert prediction.probability == pytest.approx(probability)


def test_a_model_is_named_by_version_and_weights(manifest: ModelManifest) -> None:
    """Two models of one version can be told apart."""
    assert manifest.model_id == f"1.2.3+{manifest.files[TFLITE_NAME].sha256[:12]}"


def test_an_altered_file_is_rejected(tmp_path: Path) -> None:
    """The message names the file and both digests' beginnings."""
    folder = _folder(tmp_path)
    (folder / TFLITE_NAME).write_bytes(b"other")
    with pytest.raises(ModelError, match=r"model\.tflite is not the file .*sha256"):
        load_manifest(folder)


def test_a_missing_manifest_or_file_is_named(tmp_path: Path) -> None:
    """An empty folder, and one without its weights."""
    with pytest.raises(ModelError, match="No model in"):
        load_manifest(tmp_path)
    folder = _folder(tmp_path)
    (folder / TFLITE_NAME).unlink()
    with pytest.raises(ModelError, match=r"model\.tflite cannot be read"):
        load_manifest(folder)


@pytest.mark.parametrize(
    "changes", [{"temperature": 0}, {"threshold": 1.5}, {"surprise": 1}, {"version": "a b"}]
)
def test_a_manifest_with_an_impossible_value_names_the_field(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    """The field at fault is in the message."""
    with pytest.raises(ModelError, match=next(iter(changes))):
        load_manifest(_folder(tmp_path, **changes))
