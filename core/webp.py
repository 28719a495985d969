"""Structure of WebP files (RFC 9649)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from core.layout import MAX_PARTS, ImageBytes, Layout, joined, too_many_parts, unreadable

_FIRST: Final = 12  # where the first chunk begins
_EXIF_FLAG: Final = 8
_LOSSLESS: Final = 0x2F
_MOST_MISSING: Final = 8  # bytes at the end of the pixels that may be missing,
_LEAST_RATIO: Final = 20  # if there are so many times more of them
_READ_AHEAD: Final = 64  # bytes: the codes that zeros stand for may be longer than those that were there


@dataclass(slots=True)
class WebpLayout(Layout):
    """Layout of a WebP file. `missing`: how many bytes its pixels lack at their end."""

    missing: int = 0


def read_webp(data: ImageBytes) -> WebpLayout:
    """Return the layout. The RIFF header's length is not believed: writers get it wrong, and files are cut.

    Kept are the extended header, transparency, and the picture or the first frame of an animation.

    Raises:
        CorruptImageError, IndexError, struct.error: it is damaged, or has more parts than a picture needs.
    """
    layout = WebpLayout()
    at, extended = _FIRST, data[12:16] == b"VP8X"
    for _ in range(MAX_PARTS):
        if layout.pixels and (layout.exif or at + 8 > len(data)):
            return layout
        kind, length = struct.unpack_from("<4sI", data, at)
        start, at = at, at + 8 + length + length % 2
        if kind == b"EXIF":
            layout.exif = layout.exif or slice(start + 8, start + 8 + length)
        elif layout.pixels:
            continue
        elif kind == b"VP8X" and start == _FIRST:
            low, high = struct.unpack_from("<IH", data, 24)
            layout.width, layout.height = (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
            layout.keep(start, at)
        elif extended and kind in {b"ALPH", b"ANIM"}:
            layout.keep(start, at)
        elif kind in {b"VP8 ", b"VP8L"} or (extended and kind == b"ANMF"):
            layout.pixels = start
            layout.missing = _missing(data, start, length)
            layout.keep(start, min(at, len(data)))
            if not extended:
                layout.width, layout.height = _size(data, start)
            if not (extended and data[20] & _EXIF_FLAG):
                layout.exif = None
                return layout
    raise too_many_parts("WEBP", MAX_PARTS)


def webp_source(data: ImageBytes, layout: WebpLayout) -> ImageBytes:
    """Return what the decoder is to read: one picture, in a file whose header states its length."""
    (length,) = struct.unpack_from("<I", data, 4)
    if layout.kept == [(_FIRST, len(data))] and length + 8 == len(data) and not layout.missing:
        return data
    chunks = joined(data, layout.kept)
    if layout.missing:
        chunks = _filled(chunks, layout)
    chunks += bytes(len(chunks) % 2)  # The last chunk's filling byte may be missing too.
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _filled(chunks: bytes, layout: WebpLayout) -> bytes:
    """Return the chunks with zeros for the bytes that the last one lacks."""
    zeros = bytes(layout.missing)
    start = len(chunks) - (layout.kept[-1][1] - layout.pixels)
    kind, length = struct.unpack_from("<4sI", chunks, start)
    if kind != b"ANMF":  # It holds chunks with lengths of their own.
        zeros += bytes(_READ_AHEAD)
        length += _READ_AHEAD
    return chunks[: start + 4] + struct.pack("<I", length) + chunks[start + 8 :] + zeros


def _missing(data: ImageBytes, start: int, length: int) -> int:
    """Return how many bytes a chunk lacks: as few as change nothing that anybody sees."""
    missing = max(0, start + 8 + length - len(data))
    if missing > _MOST_MISSING or missing * _LEAST_RATIO > length:
        raise unreadable("WEBP")
    return missing


def _size(data: ImageBytes, start: int) -> tuple[int, int]:
    """Return width and height of a picture without an extended header, 0 if they cannot be known."""
    if data[start : start + 4] == b"VP8L" and data[start + 8] == _LOSSLESS:
        (bits,) = struct.unpack_from("<I", data, start + 9)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if data[start : start + 4] == b"VP8 " and data[start + 11 : start + 14] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, start + 14)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0
