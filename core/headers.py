"""What an image says of itself before it is decoded: type and size.

The API checks uploads with this module alone, so it imports no NumPy and decodes no pixel.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

from PIL import Image

from core.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError

MAX_BYTES: Final = 10 * 1024 * 1024
"""Largest upload, bytes. A 1080p JPEG frame has 0.2-1 MB; 10 MiB leaves room for a 4K PNG."""

MAX_PIXELS: Final = 50_000_000
"""Largest image, pixels (width times height). 8K video has 33 million; decoded RGB takes 150 MB."""

MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""Format name, which is also the object's extension, to media type."""

# The limit is checked here, from the header, with our own error; Pillow's only warns below twice its own.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Format (a key of `MEDIA_TYPES`) and size in pixels, as the file's own header states them."""

    format: str
    width: int
    height: int

    @property
    def media_type(self) -> str:
        """The type as HTTP names it, such as `image/jpeg`."""
        return MEDIA_TYPES[self.format]


def sniff(data: bytes) -> str | None:
    """Return the format that the first bytes announce, a key of `MEDIA_TYPES`, or None."""
    if data[:3] == b"\xff\xd8\xff":
        return "jpeg"
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return None


def open_image(data: bytes) -> tuple[ImageHeader, Image.Image]:
    """Check `data`'s header and return it with the image opened, its pixels not yet decoded.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP.
        CorruptImageError: the header cannot be read.
        ImageTooLargeError: more than `MAX_BYTES` or `MAX_PIXELS`.
    """
    if len(data) > MAX_BYTES:
        raise ImageTooLargeError(f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError("The bytes are not a JPEG, PNG or WebP image; send one of those.")
    try:
        image = Image.open(io.BytesIO(data), formats=(name.upper(),))
    except Exception as error:  # Pillow's parsers raise whatever a malformed segment makes them hit.
        raise CorruptImageError(f"The {name.upper()} header cannot be read; send the image again.") from error
    header = ImageHeader(name, image.width, image.height)
    if header.width * header.height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"The image is {header.width}x{header.height} pixels; "
            f"send at most {MAX_PIXELS // 1_000_000} million pixels."
        )
    return header, image


def read_header(data: bytes) -> ImageHeader:
    """Return the format and size of `data` without decoding it; raises as `open_image`."""
    return open_image(data)[0]
