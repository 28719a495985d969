"""What an image says of itself before it is decoded: type and size.

The API checks uploads with this module alone. It reads the headers itself and neither decodes a pixel nor
calls a decoder's parser: those follow whatever a file tells them to, and a hostile 8 MB PNG kept Pillow's
busy for 24 seconds before it knew the size.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from core.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError

MAX_BYTES: Final = 10 * 1024 * 1024
"""Largest upload, bytes. A 1080p JPEG frame has 0.2-1 MB; 10 MiB leaves room for a 4K PNG."""

MAX_PIXELS: Final = 50_000_000
"""Largest image, pixels (width times height). 8K video has 33 million; decoded RGB takes 150 MB."""

MAX_SEGMENTS: Final = 500
"""Most segments or chunks before the pixels. Cameras write 5-20; a colour profile of 10 MiB takes 160."""

MAX_SCANS: Final = 100
"""Most scans of a JPEG. Encoders write 1-14; a decoder goes over the whole picture once for each."""

MEDIA_TYPES: Final = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
"""Format name, which is also the object's extension, to media type."""

ImageBytes = bytes | bytearray | memoryview
"""The bytes of an image, by themselves or as a view of more."""

_MARKER: Final = re.compile(rb"\xff+([^\x00\xff])")
"""A JPEG marker (ITU-T T.81, B.1.1.2), with the bytes that may fill the space before it."""

_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""What ends a scan's data: a marker that is no restart marker."""

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_SOS: Final = 0xDA
_EOI: Final = 0xD9
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})


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


def read_header(data: ImageBytes) -> ImageHeader:
    """Return the format and size of `data`; the time this takes is bounded whatever the bytes are.

    Raises:
        UnsupportedImageError: not JPEG, PNG or WebP.
        CorruptImageError: the header breaks off, contradicts itself, or has more parts than a picture needs.
        ImageTooLargeError: more than `MAX_BYTES` or `MAX_PIXELS`.
    """
    if len(data) > MAX_BYTES:
        raise ImageTooLargeError(f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).")
    name = sniff(data)
    if name is None:
        raise UnsupportedImageError("The bytes are not a JPEG, PNG or WebP image; send one of those.")
    try:
        width, height, scans = _jpeg_size(data) if name == "jpeg" else (*_SIZES[name](data), 1)
    except (struct.error, IndexError):  # The bytes end before the size is known.
        width = height = scans = 0
    if not width or not height:
        raise CorruptImageError(f"The {name.upper()} header cannot be read; send the image again.")
    check_pixels(width, height)
    return ImageHeader(name, width, height, scans)


def check_pixels(width: int, height: int) -> None:
    """Return if an image of this size may be decoded; raises `ImageTooLargeError`."""
    if width * height > MAX_PIXELS:
        raise ImageTooLargeError(
            f"The image is {width}x{height} pixels; send at most {MAX_PIXELS // 1_000_000} million pixels."
        )


def _jpeg_size(data: ImageBytes) -> tuple[int, int, int]:
    """Return width, height and scans, 0 if they cannot be known (ITU-T T.81, annex B)."""
    width = height = components = 0
    progressive = False
    at = 2
    for _ in range(MAX_SEGMENTS):
        marker = _MARKER.search(data, at)
        if marker is None:
            return 0, 0, 0
        code, at = marker[1][0], marker.end()
        if code in _SOF:
            height, width, components = struct.unpack_from(">HHB", data, at + 3)
            progressive = code in _PROGRESSIVE
        elif code == _SOS:
            if progressive or data[at + 2] < components:  # Else decoders read this one scan only.
                return width, height, _count_scans(data, at)
            return width, height, 1
        elif code == _EOI:
            return 0, 0, 0
        if code not in _WITHOUT_LENGTH:
            at += _length(data, at)
    raise _too_many_parts("JPEG")


def _length(data: ImageBytes, at: int) -> int:
    (length,) = struct.unpack_from(">H", data, at)
    return max(2, int(length))


def _count_scans(data: ImageBytes, at: int) -> int:
    """Count the scans from the first one's header on. Thousands are a known way to keep a decoder busy."""
    scans = 1
    while found := _IN_SCAN.search(data, at):
        code, at = data[found.start() + 1], found.end()
        if code == _EOI:
            break
        scans += code == _SOS
        if scans > MAX_SCANS:
            raise CorruptImageError(
                f"The JPEG image has more than {MAX_SCANS} scans; save it in a usual way."
            )
        if code not in _WITHOUT_LENGTH and at + 2 <= len(data):
            at += _length(data, at)
    return scans


def _png_size(data: ImageBytes) -> tuple[int, int]:
    """Return width and height, 0 if they cannot be known (PNG specification, 5.3 and 11.2.2)."""
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    (checksum,) = struct.unpack_from(">I", data, 29)
    if length != 13 or kind != b"IHDR" or zlib.crc32(data[12:29]) != checksum:  # noqa: PLR2004 - of IHDR
        return 0, 0
    at = 33
    for _ in range(MAX_SEGMENTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return width, height
        at += length + 12
    raise _too_many_parts("PNG")


def _webp_size(data: ImageBytes) -> tuple[int, int]:
    """Return width and height of the canvas, 0 if they cannot be known (RFC 9649)."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        return 0, 0
    kind = data[12:16]
    if kind == b"VP8X":
        low, high = struct.unpack_from("<IH", data, 24)
        return (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
    if kind == b"VP8L" and data[20] == 0x2F:  # noqa: PLR2004 - its signature
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def _too_many_parts(name: str) -> CorruptImageError:
    return CorruptImageError(
        f"The {name} image has more than {MAX_SEGMENTS} parts before its pixels; save it in a usual way."
    )


_SIZES: Final[dict[str, Callable[[ImageBytes], tuple[int, int]]]] = {
    "png": _png_size,
    "webp": _webp_size,
}
