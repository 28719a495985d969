"""Structure of WebP files (RFC 9649)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from core.formats.layout import MAX_PARTS, ImageBytes, Layout, too_many_parts, unreadable, without

_FIRST: Final = 12  # where the first chunk begins
_PICTURES: Final = frozenset({b"VP8 ", b"VP8L"})
_BESIDE: Final = frozenset({b"ALPH", b"ANIM"})
_EXIF_FLAG: Final = 8
_LOSSLESS: Final = 0x2F
_MAX_MISSING: Final = 8  # bytes at the end of the pixels that may be missing,
_LEAST_RATIO: Final = 20  # if there are so many times more of them
_READ_AHEAD: Final = 64  # bytes: the codes that zeros stand for may be longer than those that were there


@dataclass(slots=True)
class WebpLayout(Layout):
    """Layout of a WebP file: where its picture should end, and how many of its bytes are missing there."""

    stop: int = 0
    missing: int = 0


def read_webp(data: ImageBytes) -> WebpLayout:
    """Return the layout. The RIFF header's length is not believed: writers get it wrong, and files are cut.

    The decoder gets the extended header, transparency, and the picture or the first frame of an animation.

    Raises:
        CorruptImageError, IndexError, struct.error: it is damaged, or has more parts than a picture needs.
    """
    layout = WebpLayout(0, 0, 0, [], None)
    at, extended = _FIRST, data[12:16] == b"VP8X"
    has_exif = extended and data[20] & _EXIF_FLAG
    for _ in range(MAX_PARTS):
        if layout.pixels and (layout.exif or not has_exif or at + 8 > len(data)):
            return layout
        kind, length = struct.unpack_from("<4sI", data, at)
        start, at = at, at + 8 + length + length % 2
        if layout.pixels == 0 and (kind in _PICTURES or (extended and kind == b"ANMF")):
            layout.pixels, layout.stop = start, at
            layout.missing = _missing(data, start, length)
            if not extended:
                layout.width, layout.height = _size(data, start)
        elif kind == b"VP8X" and start == _FIRST:
            low, high = struct.unpack_from("<IH", data, 24)
            layout.width, layout.height = (low & 0xFFFFFF) + 1, (low >> 24 | high << 8) + 1
        elif not (extended and kind in _BESIDE):
            layout.dropped.append((start, at))
            if kind == b"EXIF" and has_exif:
                layout.exif = layout.exif or slice(start + 8, start + 8 + length)
    raise too_many_parts("WEBP", MAX_PARTS)


def webp_source(data: ImageBytes, layout: WebpLayout) -> ImageBytes:
    """Return what the decoder is to read: one picture, in a file whose header states its length."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 == layout.stop == len(data) and not layout.dropped:
        return data
    dropped = [gap for gap in layout.dropped if gap[0] < layout.pixels]
    chunks = b"".join(without(data, dropped, _FIRST, layout.stop))
    if layout.missing:
        chunks = _filled(chunks, layout.missing, min(layout.stop, len(data)) - layout.pixels)
    chunks += bytes(len(chunks) % 2)  # The last chunk's filling byte may be missing too.
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WEBP" + chunks


def _filled(chunks: bytes, missing: int, last: int) -> bytes:
    """Return the chunks with zeros for the bytes that the last one lacks; `last`: bytes of it there are."""
    zeros = bytes(missing)
    start = len(chunks) - last
    kind, length = struct.unpack_from("<4sI", chunks, start)
    if kind != b"ANMF":  # It holds chunks with lengths of their own.
        zeros += bytes(_READ_AHEAD)
        length += _READ_AHEAD
    return chunks[: start + 4] + struct.pack("<I", length) + chunks[start + 8 :] + zeros


def _missing(data: ImageBytes, start: int, length: int) -> int:
    """Return how many bytes a chunk lacks: as few as change nothing that anybody sees."""
    missing = max(0, start + 8 + length - len(data))
    if missing > _MAX_MISSING or missing * _LEAST_RATIO > length:
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
