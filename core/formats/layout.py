"""Layout of an image file: which of its bytes its pixels need, and where its EXIF data are.

Decoders get those bytes only. What cameras write beside the pixels is often damaged, and a decoder that
reads it gives the image up for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from core.errors import CorruptImageError

MAX_SEGMENTS: Final = 500
"""Maximum segments or chunks that a decoder reads before the pixels. A picture needs 2-20."""

MAX_PARTS: Final = 10_000
"""Maximum segments or chunks of a file, including those that the decoder does not get.

10 MiB of metadata in pieces of 1 kB; walking takes 4 ms.
"""

ImageBytes = bytes | bytearray | memoryview
"""The bytes of an image, by themselves or as a view of more."""


@dataclass(slots=True)
class Layout:
    """Size of an image, and the places of its parts in the file.

    Attributes:
        width: pixels.
        height: pixels.
        pixels: where the segment or chunk with the first pixels begins.
        dropped: ranges of bytes (start, stop) that the decoder does not get, in order.
        exif: where the EXIF data are, beginning with their TIFF header.
        scans: how often a decoder goes over the whole picture.
    """

    width: int
    height: int
    pixels: int
    dropped: list[tuple[int, int]]
    exif: slice | None
    scans: int = 1


def without(data: ImageBytes, dropped: Iterable[tuple[int, int]], start: int, stop: int) -> list[memoryview]:
    """Return the pieces of `data` from `start` to `stop` that are not dropped."""
    view = memoryview(data)
    pieces = []
    for gap, after in dropped:
        if gap > start:
            pieces.append(view[start:gap])
        start = after
    return [*pieces, view[start:stop]]


def unreadable(name: str) -> CorruptImageError:
    """Return the error for a header that breaks off or contradicts itself."""
    return CorruptImageError(f"The {name} header cannot be read; send the image again.")


def too_many_parts(name: str, max_parts: int) -> CorruptImageError:
    """Return the error for a file that consists of more parts than a picture needs."""
    return CorruptImageError(f"The {name} image has more than {max_parts:,} parts; save it in a usual way.")
