"""Frames to send: JPEGs of each size, composed of smaller images."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image, ImageChops

from core.errors import ImageError
from core.images import decode
from infra.cli.collect import CollectError, collect
from infra.lab.bench.errors import BenchError
from infra.lab.bench.plan import Size
from infra.local.checkout import REPOSITORY

EXAMPLES: Final = REPOSITORY / "docs" / "examples"

QUALITY: Final = 85
"""JPEG quality of the frames, as cameras use it."""

_TILE: Final = 240
"""Minimum side of an image in a frame, pixels: one enlarged photograph would have fewer details, and
bytes, than a camera's frame."""

_DECODED_SIDE: Final = 320  # pixels
_GRAIN: Final = 7.0
"""Standard deviation of the noise laid over the shipped images, which are drawn: without it, a frame
would have a third of the bytes of a frame of photographs. With it, 720p has 200 kB."""

_MAX_SOURCES: Final = 400
_SEED: Final = 1


@dataclass(frozen=True)
class FrameSet:
    """Encoded frames of one size."""

    size: Size
    frames: tuple[bytes, ...]

    @property
    def mean_bytes(self) -> int:
        """Mean size of a frame, bytes."""
        return sum(map(len, self.frames)) // len(self.frames)


def make_frames(sizes: Sequence[Size], count: int, folder: Path | None) -> dict[str, FrameSet]:
    """Return `count` different frames of each size, the same at every call.

    A frame shows several images side by side, as a belt does; a small frame shows one.

    Args:
        sizes: the sizes; their names index the result.
        count: frames of each size.
        folder: a folder or .tar of images; None for the shipped ones.

    Raises:
        BenchError: there are no images, or none of them can be decoded.
    """
    if folder is None and not EXAMPLES.is_dir():
        raise BenchError("The installed package has no images; name a folder of images with --images.")
    images = list(_decode_all(folder or EXAMPLES))
    if not images:
        raise BenchError(
            f"None of the images in {folder} can be decoded; name a folder of JPEG, PNG or WebP."
        )
    grain = _GRAIN if folder is None else 0.0
    return {size.name: FrameSet(size, tuple(_frames(size, count, images, grain))) for size in sizes}


def _decode_all(folder: Path) -> Iterator[Image.Image]:
    try:
        sources = collect([folder])
    except CollectError as error:
        raise BenchError(f"{error} Name a folder of images with --images.") from error
    for source in random.Random(_SEED).sample(sources, min(len(sources), _MAX_SOURCES)):  # noqa: S311 - a sample
        try:
            yield Image.fromarray(decode(source.read(), side=_DECODED_SIDE))
        except (ImageError, OSError):  # Damaged, or gone: the other images suffice.
            continue


def _frames(size: Size, count: int, images: Sequence[Image.Image], grain: float) -> Iterator[bytes]:
    rng = random.Random(_SEED)  # noqa: S311 - repeatable, no secret
    columns, rows = max(1, size.width // _TILE), max(1, size.height // _TILE)
    width, height = -(-size.width // columns), -(-size.height // rows)
    for _ in range(count):
        frame = Image.new("RGB", (size.width, size.height))
        for place in range(columns * rows):
            tile = rng.choice(images).resize((width, height))
            if rng.random() < 0.5:  # noqa: PLR2004 - one in two
                tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            frame.paste(tile, (place % columns * width, place // columns * height))
        if grain:
            noise = Image.effect_noise(frame.size, grain).convert("RGB")
            frame = ImageChops.add(frame, noise, offset=-128)
        stream = io.BytesIO()
        frame.save(stream, "JPEG", quality=QUALITY)
        yield stream.getvalue()
