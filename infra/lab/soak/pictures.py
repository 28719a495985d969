"""Images for the load, made on the spot."""

from __future__ import annotations

import io
import random
from typing import Final

from PIL import Image

_KINDS: Final = 32
_SIZE: Final = (1280, 720)


def make_pictures(seed: int) -> list[bytes]:
    """Return different JPEGs of a camera's size: workers shall have some to do whenever one is killed."""
    rng = random.Random(seed)  # noqa: S311 - patterns, no secret
    return [_encoded(rng) for _ in range(_KINDS)]


def broken(data: bytes) -> bytes:
    """Return the JPEG with a good header and half of its pixels missing: it must settle `failed`."""
    start = data.index(b"\xff\xda")
    return data[: (start + len(data)) // 2]


def _encoded(rng: random.Random) -> bytes:
    small = Image.frombytes("RGB", (4, 3), rng.randbytes(36))
    stream = io.BytesIO()
    small.resize(_SIZE).save(stream, "JPEG", quality=70)
    return stream.getvalue()
