"""Synthetic images for the workload."""

from __future__ import annotations

import io
import random
from typing import Final

from PIL import Image

_COUNT: Final = 32
_SIZE: Final = (1280, 720)


def make_images(seed: int) -> list[bytes]:
    """Return different JPEGs of a camera's size, so that a killed worker always has work in progress."""
    rng = random.Random(seed)  # noqa: S311 - patterns, no secret
    return [_encode(rng) for _ in range(_COUNT)]


def truncate(data: bytes) -> bytes:
    """Return the JPEG with a valid header and half of its pixels missing: its job must settle `failed`."""
    start = data.index(b"\xff\xda")
    return data[: (start + len(data)) // 2]


def _encode(rng: random.Random) -> bytes:
    small = Image.frombytes("RGB", (4, 3), rng.randbytes(36))
    stream = io.BytesIO()
    small.resize(_SIZE).save(stream, "JPEG", quality=70)
    return stream.getvalue()
