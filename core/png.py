"""Structure of PNG files (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from core.layout import MAX_PARTS, MAX_SEGMENTS, ImageBytes, Layout, joined, too_many_parts, unreadable

_HEADER: Final = 13  # bytes in IHDR
_AROUND: Final = 12  # bytes of a chunk beside what it holds: length, name, checksum
_MOST_ALPHAS: Final = 256
_GREY, _COLOUR, _PALETTE = 0, 2, 3
_SHORTEST_TRANSPARENCY: Final = {_GREY: 2, _COLOUR: 6, _PALETTE: 1}
"""Colour type to the least bytes of `tRNS`."""

_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def read_png(data: ImageBytes) -> Layout:
    """Return the layout up to the first pixels.

    Kept are the header, the palette of an image that uses it, and a whole `tRNS` with the right checksum:
    the other ancillary chunks do not change what a classifier sees, and frames of an animation come later.

    Raises:
        CorruptImageError, IndexError, struct.error: it is damaged, or has more parts than a picture needs.
    """
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if length != _HEADER or kind != b"IHDR" or not _is_whole(data, 8, length):
        raise unreadable("PNG")
    colour = data[25]
    layout = Layout(width, height)
    layout.keep(0, 33)
    at = 33
    needed = 0
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        start, at = at, at + length + _AROUND
        if kind == b"IDAT":
            layout.pixels = start
            return layout
        if (
            kind == b"IHDR"
            or (kind == b"PLTE" and colour == _PALETTE)
            or (kind == b"tRNS" and _is_transparency(data, start, length, colour))
        ):
            needed += 1
            layout.keep(start, at)
        elif kind == b"eXIf":
            layout.exif = slice(start + 8, at - 4)
        elif kind == b"IEND":
            raise unreadable("PNG")
        if needed > MAX_SEGMENTS:
            raise too_many_parts("PNG", MAX_SEGMENTS)
    raise too_many_parts("PNG", MAX_PARTS)


def png_source(data: ImageBytes, layout: Layout) -> ImageBytes:
    """Return what the decoder is to read: header, palette, transparency, pixels, end.

    Raises:
        CorruptImageError: it has more parts than a picture needs.
    """
    pixels = Layout(kept=list(layout.kept))
    at = layout.pixels
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        start, at = at, at + length + _AROUND
        if kind == b"IDAT":
            pixels.keep(start, min(at, len(data)))
        elif kind == b"IEND":
            if pixels.kept == [(0, start)]:
                return data
            break
    else:
        raise too_many_parts("PNG", MAX_PARTS)
    whole = at <= len(data)  # Else what follows would be read as the rest of the last chunk.
    return joined(data, pixels.kept, tail=_END if whole else b"")


def _is_transparency(data: ImageBytes, start: int, length: int, colour: int) -> bool:
    shortest = _SHORTEST_TRANSPARENCY.get(colour)
    return shortest is not None and shortest <= length <= _MOST_ALPHAS and _is_whole(data, start, length)


def _is_whole(data: ImageBytes, start: int, length: int) -> bool:
    """Return whether a chunk's checksum is right."""
    (checksum,) = struct.unpack_from(">I", data, start + 8 + length)
    return zlib.crc32(data[start + 4 : start + 8 + length]) == int(checksum)
