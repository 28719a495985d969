"""Images to send, from files, bytes or Pillow."""

from __future__ import annotations

import errno
import io
import math
import os
import re
import stat
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol, Union, runtime_checkable

from wastestream.errors import ImageError

MAX_BYTES: Final = 10 * 1024 * 1024
"""Bytes of one image; the server's limit."""

_JPEG_MODES: Final = {"RGB", "L"}
_JPEG_QUALITY: Final = 95
_KEY: Final = re.compile(r"[\x21-\x7e]{1,128}")
_READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@runtime_checkable
class PillowImage(Protocol):
    """The used part of a `PIL.Image.Image`."""

    @property
    def mode(self) -> str:
        """Type of its pixels."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, pixels."""

    def save(self, fp: Any, format: str | None = None, **params: Any) -> None:  # noqa: A002 - Pillow's name
        """Encode it."""


Content = Union[str, "os.PathLike[str]", bytes, bytearray, memoryview, PillowImage]
"""A path, the bytes of a JPEG, PNG or WebP file, or a Pillow image."""


@dataclass(frozen=True)
class Image:
    """An image and its origin. Every member but `content` may be None: unknown, or the client's default.

    Attributes:
        content: a path, the bytes of a JPEG, PNG or WebP file, or a Pillow image, which is sent as JPEG of
            quality 95, or as PNG unless it is RGB or grey.
        camera: the camera's id.
        captured_at: when the picture was taken, with a zone.
        max_age: seconds after `captured_at`, or after acceptance, from which on classifying it is pointless.
        idempotency_key: 1 to 128 visible ASCII characters. The same key with the same image makes no second
            job, even by another program; without one, each call of this client has a key of its own.

    Raises:
        TypeError: `content` is of another type.
        ValueError: the time has no zone, the age is no number of seconds, or the key is no key.
    """

    content: Content
    camera: str | None = None
    captured_at: datetime | None = None
    max_age: float | None = None
    idempotency_key: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.content, (str, os.PathLike, bytes, bytearray, memoryview, PillowImage)):
            raise TypeError(
                f"{type(self.content).__name__} is no image; use a path, the bytes of an image file, or a "
                "Pillow image."
            )
        if self.captured_at is not None and self.captured_at.tzinfo is None:
            raise ValueError(
                f"captured_at={self.captured_at.isoformat()} has no zone; use an aware datetime, such as "
                "datetime.now(timezone.utc)."
            )
        if self.max_age is not None and not 0 <= self.max_age < math.inf:
            raise ValueError(f"max_age={self.max_age} is no number of seconds; use 0 or more.")
        if self.idempotency_key is not None and not _KEY.fullmatch(self.idempotency_key):
            raise ValueError(
                f"{self.idempotency_key[:40]!r} is no idempotency key; use 1 to 128 visible ASCII characters."
            )

    @property
    def path(self) -> str | None:
        """The path of a file; None for other images."""
        return os.fspath(self.content) if isinstance(self.content, (str, os.PathLike)) else None

    @property
    def size(self) -> int:
        """Approximate bytes in memory while it is sent; 0 for a file that cannot be read."""
        if isinstance(self.content, (str, os.PathLike)):
            try:
                return Path(self.content).stat().st_size
            except OSError:
                return 0  # `read` says why.
        if isinstance(self.content, (bytes, bytearray, memoryview)):
            return memoryview(self.content).nbytes
        width, height = self.content.size
        return 3 * width * height

    def read(self) -> bytes:
        """Return the bytes to send.

        Raises:
            ImageError: the file cannot be read, or is too large.
        """
        if isinstance(self.content, (str, os.PathLike)):
            data = _read_path(self.content)
        elif isinstance(self.content, (bytes, bytearray, memoryview)):
            data = bytes(self.content)
        else:
            data = _encode(self.content)
        if len(data) > MAX_BYTES:
            raise ImageError(
                f"{self.path or 'The image'} is too large; send at most {MAX_BYTES:,} bytes (10 MiB)."
            )
        return data


def as_image(image: Image | Content) -> Image:
    """Return an `Image` for any image that a caller passes."""
    return image if isinstance(image, Image) else Image(image)


def read_file(path: str | os.PathLike[str], offset: int = 0, size: int = MAX_BYTES + 1) -> bytes:
    """Return at most `size` bytes of a regular file.

    Raises:
        OSError: it is missing, unreadable, or not a regular file.
    """
    # A normal `open` of a pipe without a writer would block.
    with os.fdopen(os.open(path, _READ_FLAGS), "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file")
        stream.seek(offset)
        return stream.read(size)


def _read_path(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_file(path)
    except OSError as error:
        raise ImageError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error


def _encode(image: PillowImage) -> bytes:
    stream = io.BytesIO()
    if image.mode in _JPEG_MODES:
        image.save(stream, "JPEG", quality=_JPEG_QUALITY)
    else:
        image.save(stream, "PNG")
    return stream.getvalue()
