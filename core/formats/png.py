"""Structure of PNG files (PNG specification, third edition)."""

from __future__ import annotations

import struct
import zlib
from typing import Final

from core.formats.layout import (
    MAX_PARTS,
    MAX_SEGMENTS,
    ImageBytes,
    Layout,
    too_many_parts,
    unreadable,
    without,
)

_HEADER: Final = 13  # bytes in IHDR
_AROUND: Final = 12  # bytes of a chunk beside what it holds: length, name, checksum
_MAX_ALPHAS: Final = 256
_GREY, _COLOUR, _PALETTE = 0, 2, 3
_SHORTEST_TRANSPARENCY: Final = {_GREY: 2, _COLOUR: 6, _PALETTE: 1}
"""Colour type to the least bytes of `tRNS`."""

_END: Final = b"\x00\x00\x00\x00IEND\xaeB`\x82"


def read_png(data: ImageBytes) -> Layout:
    """Return the layout up to the first pixels.

    The decoder gets the header, the palette of an image that uses it, and a whole `tRNS` whose checksum is
    right: other ancillary chunks do not change what a classifier sees, and frames of an animation come later.

    Raises:
        CorruptImageError, IndexError, struct.error: it is damaged, or has more parts than a picture needs.
    """
    length, kind, width, height = struct.unpack_from(">I4sII", data, 8)
    if length != _HEADER or kind != b"IHDR" or not _is_whole(data, 8, length):
        raise unreadable("PNG")
    colour = data[25]
    layout = Layout(width, height, 0, [], None)
    at, needed = 33, 0
    for _ in range(MAX_PARTS):
        length, kind = struct.unpack_from(">I4s", data, at)
        start, at = at, at + length + _AROUND
        if kind == b"IDAT":
            layout.pixels = start
            break
        if kind == b"IEND":
            raise unreadable("PNG")
        if (
            kind == b"IHDR"
            or (kind == b"PLTE" and colour == _PALETTE)
            or (kind == b"tRNS" and _is_transparency(data, start, length, colour))
        ):
            needed += 1
            continue
        layout.dropped.append((start, at))
        if kind == b"eXIf":
            layout.exif = slice(start + 8, at - 4)
    else:
        raise too_many_parts("PNG", MAX_PARTS)
    if needed > MAX_SEGMENTS:
        raise too_many_parts("PNG", MAX_SEGMENTS)
    return layout


def png_source(data: ImageBytes, layout: Layout) -> ImageBytes:
    """Return what the decoder is to read: header, palette, transparency, pixels, end.

    Raises:
        CorruptImageError: it has more parts than a picture needs.
    """
    dropped = list(layout.dropped)
    at = layout.pixels
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IEND":
            break
        if kind != b"IDAT":
            dropped.append((at, at + length + _AROUND))
        at += length + _AROUND
    else:
        raise too_many_parts("PNG", MAX_PARTS)
    if not dropped:
        return data
    whole = at <= len(data)  # Else an end would be read as the rest of the last chunk.
    return b"".join([*without(data, dropped, 0, at), _END if whole else b""])


def _is_transparency(data: ImageBytes, start: int, length: int, colour: int) -> bool:
    shortest = _SHORTEST_TRANSPARENCY.get(colour)
    return shortest is not None and shortest <= length <= _MAX_ALPHAS and _is_whole(data, start, length)


def _is_whole(data: ImageBytes, start: int, length: int) -> bool:
    """Return whether a chunk's checksum is right."""
    (checksum,) = struct.unpack_from(">I", data, start + 8 + length)
    return zlib.crc32(data[start + 4 : start + 8 + length]) == int(checksum)
