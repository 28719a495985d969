"""infra.lab.bench.frames: frames with the look and the bytes of a camera's."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image

from core.images import decode
from infra.lab.bench.errors import BenchError
from infra.lab.bench.frames import make_frames
from infra.lab.bench.plan import SIZES
from tests.support.images import jpeg

_FULL_HD = next(size for size in SIZES if size.name == "1080p")


def test_frames_of_the_shipped_images_are_like_a_cameras() -> None:
    """Every size has its pixels, is decoded, and 720p has the bytes of a camera's frame at quality 85."""
    sets = make_frames(SIZES, 2, None)
    for size in SIZES:
        frame_set = sets[size.name]
        assert len(set(frame_set.frames)) == 2
        for frame in frame_set.frames:
            with Image.open(io.BytesIO(frame)) as image:
                assert (image.format, image.size) == ("JPEG", (size.width, size.height))
            assert decode(frame).shape == (128, 128, 3)
    assert 150_000 < sets["720p"].mean_bytes < 300_000


def test_damaged_images_are_skipped(tmp_path: Path) -> None:
    """A folder may contain garbage, and the same images make the same frames."""
    (tmp_path / "good.jpg").write_bytes(jpeg())
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:200])
    (tmp_path / "text.png").write_text("no image")
    first, second = (make_frames([_FULL_HD], 1, tmp_path)["1080p"].frames for _ in range(2))
    assert first == second


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    """Nothing there, or nothing that can be decoded: a sentence says so."""
    with pytest.raises(BenchError, match=r"No images in .*--images"):
        make_frames(SIZES, 1, tmp_path)
    (tmp_path / "text.jpg").write_text("no image")
    with pytest.raises(BenchError, match=r"None of the images in .* can be decoded"):
        make_frames(SIZES, 1, tmp_path)
