"""Synthetic images."""

from __future__ import annotations

import io
import random
from typing import Any

from PIL import Image


def pattern(width: int = 64, height: int = 48, *, seed: int = 0, mode: str = "RGB") -> Image.Image:
    """Return an image with a coarse random pattern, which compression keeps recognisable."""
    values = random.Random(seed)  # noqa: S311 - a pattern, no secret
    small = Image.new("RGB", (8, 8))
    small.putdata([(values.randrange(256), values.randrange(256), values.randrange(256)) for _ in range(64)])
    return small.resize((width, height)).convert(mode)


def encoded(image: Image.Image | None = None, image_format: str = "JPEG", **options: Any) -> bytes:
    """Return the image's file bytes."""
    stream = io.BytesIO()
    (image or pattern()).save(stream, image_format, **options)
    return stream.getvalue()


def jpeg(seed: int = 0) -> bytes:
    """Return a small JPEG; each seed gives another image."""
    return encoded(pattern(seed=seed))
