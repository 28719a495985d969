"""core.model.engine: the shipped model on LiteRT."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from core.errors import ModelError
from core.images import decode
from core.model.engine import SUB_BATCH, LiteRtEngine
from core.model.manifest import MANIFEST_NAME, TFLITE_NAME, file_entry
from core.settings import SHIPPED_MODEL
from tests.support.images import jpeg


@pytest.fixture(scope="module")
def engine() -> LiteRtEngine:
    """The shipped model, loaded."""
    return LiteRtEngine(SHIPPED_MODEL)


@pytest.mark.parametrize("count", [1, SUB_BATCH - 1, SUB_BATCH, SUB_BATCH + 3, 2 * SUB_BATCH])
def test_an_image_has_the_same_logit_in_any_batch(engine: LiteRtEngine, count: int) -> None:
    """Full sub-batches and the remainder give each image the same logit as alone."""
    pixels = np.stack([decode(jpeg(seed)) for seed in range(count)])
    alone = [float(engine.logits(pixels[at : at + 1])[0]) for at in range(count)]
    batched = engine.logits(pixels)
    assert batched.shape == (count,)
    assert batched.dtype == np.float32
    assert batched.tolist() == pytest.approx(alone, abs=1e-3)


def test_no_images_have_no_logits(engine: LiteRtEngine) -> None:
    """An empty batch is no special case for the caller."""
    assert engine.logits(np.empty((0, 128, 128, 3), np.uint8)).shape == (0,)


def test_a_file_that_is_no_model_is_rejected(tmp_path: Path) -> None:
    """A manifest may fit a file that LiteRT cannot load."""
    (tmp_path / TFLITE_NAME).write_bytes(b"no model" * 100)
    manifest = json.loads((SHIPPED_MODEL / MANIFEST_NAME).read_text())
    manifest["files"] = {TFLITE_NAME: file_entry(tmp_path / TFLITE_NAME).model_dump()}
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="LiteRT cannot load"):
        LiteRtEngine(tmp_path)


def test_the_shipped_model_is_small_and_whole(tmp_path: Path) -> None:
    """Under 6 MB, as its manifest says, and rejected once a byte differs."""
    assert (SHIPPED_MODEL / TFLITE_NAME).stat().st_size < 6_000_000
    shutil.copytree(SHIPPED_MODEL, tmp_path / "model")
    weights = bytearray((tmp_path / "model" / TFLITE_NAME).read_bytes())
    weights[-1] ^= 1
    (tmp_path / "model" / TFLITE_NAME).write_bytes(weights)
    with pytest.raises(ModelError, match="is not the file that the manifest describes"):
        LiteRtEngine(tmp_path / "model")
