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
from trainer.errors import DatasetError
from trainer.pack import main, pack


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


def test_images_that_cannot_fit_are_rejected(images: Path, tmp_path: Path) -> None:
    """Before anything is written."""
    with pytest.raises(DatasetError, match="do not fit into 30,000 bytes"):
        pack([images], tmp_path / "x.tar", limit=30_000)
    assert not (tmp_path / "x.tar").exists()


def test_an_archive_that_turns_out_too_large_is_made_again(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the one image that the size is estimated from is smaller than all others."""
    monkeypatch.setattr("trainer.pack._SAMPLE", 1)
    files = read_files([images], "TRAIN")
    sampled = files[int(np.random.default_rng(0).permutation(len(files))[0])].name
    Image.new("RGB", (200, 150)).save(images.parent / sampled)
    quality = pack([images], tmp_path / "x.tar", limit=230_000)
    assert quality < 90
    assert 0 < (tmp_path / "x.tar").stat().st_size <= 230_000


def test_two_images_never_get_one_name(images: Path, tmp_path: Path) -> None:
    """Both are named."""
    (images / "TRAIN" / "O" / "00.jpg").write_bytes((images / "TRAIN" / "O" / "00.png").read_bytes())
    options = ["--data", str(images), "--out", str(tmp_path / "x.tar")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 1
    assert "set/TRAIN/O/00.jpg and set/TRAIN/O/00.png would both be set/TRAIN/O/00.webp" in result.output


def test_the_configuration_for_a_gpu_is_whole() -> None:
    """It parses over the defaults, and trains every layer."""
    config = load_config(Path(__file__).parents[3] / "trainer" / "gpu.toml")
    assert config.fine_tune.trainable_after == ""
    assert len(config.sides) == 70
