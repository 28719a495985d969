"""Shards: several images in one stored object, which costs half of what as many objects do.

Such an object is an uncompressed tar archive, so that any tool reads it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Sequence
from typing import Final

from core.cost import MAX_TOGETHER_MS
from core.formats.layout import ImageBytes

MAX_IMAGES: Final = 16
"""Most images in one object, and so most jobs in one message (0.3 ms to send and 0.7 to consume)."""

MAX_BYTES: Final = 8 * 1024 * 1024
"""Most bytes of images in one object, which is always read whole; a larger image has one to itself."""

_BLOCK: Final = tarfile.BLOCKSIZE


def split(images: Sequence[tuple[int, int]]) -> list[range]:
    """Return which images make a shard: ranges of their numbers, in order, each of at least one.

    Args:
        images: bytes of each image, and what it costs to decode (`core.cost`).
    """
    found: list[range] = []
    begin = total = cost = 0
    for number, (size, cost_ms) in enumerate(images):
        full = number - begin == MAX_IMAGES or total + size > MAX_BYTES or cost + cost_ms > MAX_TOGETHER_MS
        if full and number > begin:
            found.append(range(begin, number))
            begin, total, cost = number, 0, 0
        total += size
        cost += cost_ms
    return [*found, range(begin, len(images))]


def pack(images: Iterable[tuple[str, ImageBytes]]) -> list[ImageBytes]:
    """Return an archive of the images, given as name and bytes, in pieces."""
    pieces: list[ImageBytes] = []
    for name, data in images:
        pieces += (_header(name, len(data)), data, bytes(-len(data) % _BLOCK))
    pieces.append(bytes(2 * _BLOCK))  # how an archive ends
    return pieces


def contents(archive: ImageBytes) -> dict[str, slice]:
    """Return where the images of an archive lie in it, by name; if it is damaged, those before that."""
    places: dict[str, slice] = {}
    at = 0
    while (found := _read_header(bytes(archive[at : at + _BLOCK]))) is not None:
        name, size = found
        begin = at + _BLOCK
        if begin + size > len(archive):
            break
        places[name] = slice(begin, begin + size)
        at = begin + size + -size % _BLOCK
    return places


def _header(name: str, size: int) -> bytes:
    """Return an image's header in the archive: `tarfile` would take 16 µs to make it, and 17 to read it."""
    title, digits = name.encode(), b"%011o" % size
    if len(title) > _NAME.stop:
        raise ValueError(f"{name} is too long a name for an archive.")
    block = bytearray(_EMPTY)
    block[: len(title)] = title
    block[_SIZE] = digits
    block[_SUM] = b"%06o" % _checksum(block)
    return bytes(block)


def _read_header(block: bytes) -> tuple[str, int] | None:
    """Return name and size of an image, None if this is no header or a damaged one."""
    if len(block) < _BLOCK or not (block[_SIZE].isdigit() and block[_SUM].isdigit()):
        return None
    try:
        if int(block[_SUM], 8) != _checksum(block):
            return None
        return block[_NAME].rstrip(b"\0").decode(), int(block[_SIZE], 8)
    except ValueError:  # digits that are not octal, a name that is not UTF-8
        return None


def _checksum(block: bytes | bytearray) -> int:
    """Return the sum of a header's bytes, with its own field of eight taken as blanks."""
    return sum(block) - sum(block[_SUM.start : _SUM.start + 8]) + 8 * ord(" ")


# Fields of a header (POSIX.1-1988, "ustar"), without the NUL or blank behind their digits.
_NAME: Final = slice(0, 100)
_SIZE: Final = slice(124, 135)
_SUM: Final = slice(148, 154)

_EMPTY: Final = tarfile.TarInfo().tobuf(tarfile.USTAR_FORMAT)
"""The header of an empty file without a name."""
