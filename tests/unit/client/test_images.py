"""What may be sent as an image."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import pytest

from wastestream import Image, ImageError
from wastestream.images import MAX_BYTES


class Picture:
    """Looks like a Pillow image: these tests run where Pillow is not installed."""

    size = (64, 48)

    def __init__(self, mode: str) -> None:
        self.mode = mode

    def save(self, fp: io.BytesIO, format: str | None = None, **params: Any) -> None:  # noqa: A002 - Pillow's
        """Write the format's name."""
        fp.write(f"{format} {params}".encode())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes(kind: type[Any]) -> None:
    """Of any kind."""
    image = Image(kind(b"bytes"))
    assert (image.read(), image.size, image.path) == (b"bytes", 5, None)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path(tmp_path: Path, kind: type[Any]) -> None:
    """As text or as a path."""
    (tmp_path / "a.jpg").write_bytes(b"bytes")
    image = Image(kind(tmp_path / "a.jpg"))
    assert (image.read(), image.size, image.path) == (b"bytes", 5, str(tmp_path / "a.jpg"))


def test_pictures_of_pillow() -> None:
    """RGB and grey ones are sent as JPEG, others as PNG, which keeps what they have."""
    assert Image(Picture("RGB")).read() == b"JPEG {'quality': 95}"
    assert Image(Picture("RGBA")).read() == b"PNG {}"
    assert Image(Picture("L")).size == 64 * 48 * 3


def test_what_is_no_image() -> None:
    """It is named."""
    no_image: Any = 3.5
    with pytest.raises(TypeError, match="float is no image"):
        Image(no_image)


@pytest.mark.parametrize("key", ["", "a b", "B\u00e4nd", "a\nb", "x" * 129])
def test_what_is_no_idempotency_key(key: str) -> None:
    """It would break the header."""
    with pytest.raises(ValueError, match="is no idempotency key"):
        Image(b"bytes", idempotency_key=key)


@pytest.mark.parametrize("age", [-1, math.nan, math.inf])
def test_what_is_no_age(age: float) -> None:
    """It would make the metadata of other images unreadable."""
    with pytest.raises(ValueError, match="is no number of seconds"):
        Image(b"bytes", max_age=age)


def test_files_that_cannot_be_sent(tmp_path: Path) -> None:
    """They are named, and a pipe is never waited for."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(bytes(MAX_BYTES + 1))
    for name, sentence in {"gone": "No such file", "pipe": "is a pipe", "huge": "is too large"}.items():
        with pytest.raises(ImageError, match=f"{tmp_path / name} .*{sentence}"):
            Image(tmp_path / name).read()
    assert Image(tmp_path / "gone").size == 0
    with pytest.raises(ImageError, match="The image is too large"):
        Image(bytes(MAX_BYTES + 1)).read()
