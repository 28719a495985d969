"""Training images in one small archive, for a machine far from the data."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from trainer.config import load_config
from trainer.dataset import decode_files, read_files
from trainer.pack import main


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Twenty noisy images of two classes, a test image and a broken file."""
    rng = np.random.default_rng(1)
    for at in range(20):
        place = tmp_path / "set" / "TRAIN" / "OR"[at % 2] / f"{at:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        stream = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)).save(stream, "PNG")
        place.write_bytes(stream.getvalue())
    (tmp_path / "set" / "TRAIN" / "O" / "broken.png").write_bytes(b"nothing")
    (tmp_path / "set" / "TEST" / "O").mkdir(parents=True)
    (tmp_path / "set" / "TEST" / "O" / "99.png").write_bytes(stream.getvalue())
    return tmp_path / "set"


def test_the_archive_is_trained_on_like_the_data(images: Path, tmp_path: Path) -> None:
    """The same images under the same source and names, small; no TEST image."""
    out = tmp_path / "small.tar"
    result = CliRunner().invoke(main, ["--data", str(images), "--out", str(out), "--mebibytes", "1"])
    assert result.exit_code == 0, result.output
    assert out.stat().st_size <= 1 << 20
    packed = decode_files(read_files([out], "TRAIN"), side=128)
    names = [f"set/TRAIN/{'OR'[label]}/{at:02}.webp" for label in (0, 1) for at in range(label, 20, 2)]
    assert list(packed.names) == names
    before = decode_files(read_files([images], "TRAIN"), side=128)
    assert np.abs(packed.pixels.astype(int) - before.pixels.astype(int)).mean() < 30
    assert "quality" in result.output


def test_images_that_cannot_fit_are_rejected(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is written."""
    monkeypatch.setattr("trainer.pack._QUALITIES", (100,))
    monkeypatch.setattr("trainer.pack._MARGIN", 0.01)
    options = ["--data", str(images), "--out", str(tmp_path / "x.tar"), "--mebibytes", "1"]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "do not fit into" in result.output
    assert not (tmp_path / "x.tar").exists()


def test_the_configuration_for_a_gpu_is_whole() -> None:
    """It parses over the defaults, and trains every layer."""
    config = load_config(Path(__file__).parents[3] / "trainer" / "gpu.toml")
    assert config.fine_tune.trainable_after == ""
    assert len(config.sides) == 70
