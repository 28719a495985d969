"""Cost of decoding an image, estimated from its header: work is bounded by pixels, not by images."""

from __future__ import annotations

from typing import Final

from core.formats.jpeg import MAX_SCANS
from core.image_header import MAX_PIXELS, ImageHeader

MAX_TOGETHER_MS: Final = 500
"""Maximum cost of a batch and of a shard. A dearer image has a batch and a shard to itself."""

_NEGLIGIBLE_MS: Final = 10
"""Minimum cost that messages state. A 1080p JPEG costs 5 ms, so most messages state none."""

_PER_PIXEL: Final = {"jpeg": 0.5, "png": 20.0, "webp": 20.0}
_PER_BYTE: Final = {"jpeg": 9.0, "png": 15.0, "webp": 50.0}
_PER_PIXEL_AND_SCAN: Final = 1.0
_PER_BYTE_OF_SCANS: Final = 30.0
"""CPU nanoseconds of `core.images.decode` on 2.6 GHz Zen 3, of the dearest kinds measured.

JPEG is cheap since most of its pixels are never made (`draft`), but with several scans all coefficients are
gone through in each. PNG with alpha or 16 bits takes 11-27 a pixel, usual ones 3-11; WebP 10-20."""


def decode_ms(header: ImageHeader, size: int) -> int:
    """Return the estimated cost of decoding an image of `size` bytes, ms of CPU; 0 if negligible."""
    pixels = header.width * header.height
    if header.scans > 1:
        nanoseconds = pixels * header.scans * _PER_PIXEL_AND_SCAN + size * _PER_BYTE_OF_SCANS
    else:
        nanoseconds = pixels * _PER_PIXEL[header.format] + size * _PER_BYTE[header.format]
    milliseconds = round(nanoseconds / 1e6)
    return 0 if milliseconds < _NEGLIGIBLE_MS else milliseconds


def is_huge(cost_ms: int) -> bool:
    """Return whether an image costs so much that it is decoded by itself."""
    return cost_ms > MAX_TOGETHER_MS


MAX_COST_MS: Final = round(MAX_PIXELS * MAX_SCANS * _PER_PIXEL_AND_SCAN / 1e6)
"""Cost of the dearest image, about; assumed where the cost is unknown."""
