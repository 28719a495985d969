"""Type and size of an image, read from its header without decoding it.

The API checks uploads with this module alone. It reads the headers itself and neither decodes a pixel nor
calls a decoder's parser: those follow whatever a file tells them to, and a hostile 8 MB PNG kept Pillow's
busy for 24 seconds before it knew the size.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from core.formats.jpeg import JpegLayout, read_jpeg
from core.formats.layout import ImageBytes, Layout, unreadable
from core.formats.png import read_png
from core.formats.webp import read_webp

MAX_BYTES: Final = 10 * 1024 * 1024
"""Largest upload, bytes. A 1080p JPEG frame has 0.2-1 MB; 10 MiB leaves room for a 4K PNG."""

MAX_PIXELS: Final = 50_000_000
"""Largest image, pixels (width times height). 8K video has 33 million; decoded RGB takes 150 MB."""

MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""Format name, which is also the object's extension, to media type."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format (a key of `MEDIA_TYPES`) and size in pixels, as the file's own header states them.

    `scans`: how often a decoder goes over the whole picture, more than once for a progressive JPEG.
    """

    format: str
    width: int
    height: int
    scans: int = 1

    @property
    def media_type(self) -> str:
        """The type as HTTP names it, such as `image/jpeg`."""
        return MEDIA_TYPES[self.format]


def sniff(data: ImageBytes) -> str | None:
    """Return the format that the first bytes announce, a key of `MEDIA_TYPES`, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def media_type(data: ImageBytes, stated: str) -> str:
    """Return the type of a stored image as HTTP names it.

    Args:
        data: the image, which was checked when it was accepted.
        stated: its format by its job's record, a key of `MEDIA_TYPES`; empty if that does not tell.
    """
    return MEDIA_TYPES.get(stated or sniff(data) or "", "application/octet-stream")


def read_header(data: ImageBytes) -> ImageHeader:
    """Return the format and size of `data`, in bounded time for any bytes.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP.
        CorruptImageError: the header breaks off, contradicts itself, or has more parts than a picture needs.
        ImageTooLargeError: more than `MAX_BYTES` or `MAX_PIXELS`.
    """
    name, layout = read_layout(data)
    return ImageHeader(name, layout.width, layout.height, layout.scans)


def read_beginning(data: ImageBytes) -> ImageHeader | None:
    """Return the header of an image whose first bytes are `data`; None if they do not tell it.

    Raises:
        UnsupportedImageError, ImageTooLargeError: as `read_header` of the whole image.
    """
    try:
        name, layout = read_layout(data)
    except CorruptImageError:  # The image may go on.
        return None
    if isinstance(layout, JpegLayout) and layout.walk is not None:  # They are counted over the whole file.
        return None
    return ImageHeader(name, layout.width, layout.height)


def read_layout(data: ImageBytes) -> tuple[str, Layout]:
    """Return the format, a key of `MEDIA_TYPES`, and the layout of the file; raises as `read_header`."""
    if len(data) > MAX_BYTES:
        raise ImageTooLargeError(f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError("The bytes are not a JPEG, PNG or WebP image; send one of those.")
    try:
        layout = _READERS[name](data)
    except (struct.error, IndexError) as error:  # The bytes end before the pixels.
        raise unreadable(name.upper()) from error
    if not layout.width or not layout.height:
        raise unreadable(name.upper())
    check_pixels(layout.width, layout.height)
    return name, layout


def check_pixels(width: int, height: int) -> None:
    """Check that an image of this size may be decoded; raises `ImageTooLargeError`."""
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"The image is {width}x{height} pixels; send at most {MAX_PIXELS // 1_000_000} million pixels."
        )


_READERS: Final[dict[str, Callable[[ImageBytes], Layout]]] = {
    "jpeg": read_jpeg,
    "png": read_png,
    "webp": read_webp,
}
