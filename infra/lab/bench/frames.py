"""Frames to send: JPEGs of each size, made of photographs."""

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
from infra.client.collect import collect
from infra.client.errors import CollectError
from infra.lab.bench.errors import BenchError
from infra.lab.bench.plan import Size
from infra.local.checkout import REPOSITORY

EXAMPLES: Final = REPOSITORY / "docs" / "examples"

QUALITY: Final = 85
"""JPEG quality of the frames, as cameras have it."""

_TILE: Final = 240
"""Least side of a picture in a frame, pixels: one enlarged photograph would have fewer details, and
bytes, than a camera's frame."""

_PICTURE: Final = 320  # side at which the pictures are decoded, pixels
_GRAIN: Final = 7.0
"""Standard deviation of the noise laid over the shipped pictures, which are drawn: without it, a frame
of them would have a third of the bytes of one made of photographs. With it, 720p has 200 kB."""

_MAX_SOURCES: Final = 400
_SEED: Final = 1


@dataclass(frozen=True)
class FrameSet:
    """Frames of one size, as files."""

    size: Size
    frames: tuple[bytes, ...]

    @property
    def mean_bytes(self) -> int:
        """Mean size of a file."""
        return sum(map(len, self.frames)) // len(self.frames)


def make_frames(sizes: Sequence[Size], count: int, folder: Path | None) -> dict[str, FrameSet]:
    """Return `count` different frames of each size, the same at every call.

    A frame shows several of the pictures side by side, as a belt does; one that is smaller than two of them
    shows one.

    Args:
        sizes: the sizes by whose names the result is indexed.
        count: frames of each.
        folder: where the pictures are (a folder or a .tar); None for those shipped.

    Raises:
        BenchError: there are no images, or none of them can be decoded.
    """
    if folder is None and not EXAMPLES.is_dir():
        raise BenchError("The installed package has no pictures; name a folder of images with --images.")
    pictures = list(_pictures(folder or EXAMPLES))
    if not pictures:
        raise BenchError(
            f"None of the images in {folder} can be decoded; name a folder of JPEG, PNG or WebP."
        )
    grain = _GRAIN if folder is None else 0.0
    return {size.name: FrameSet(size, tuple(_frames(size, count, pictures, grain))) for size in sizes}


def _pictures(folder: Path) -> Iterator[Image.Image]:
    try:
        sources = collect([folder])
    except CollectError as error:
        raise BenchError(f"{error} Name a folder of images with --images.") from error
    for source in random.Random(_SEED).sample(sources, min(len(sources), _MAX_SOURCES)):  # noqa: S311 - a choice
        try:
            yield Image.fromarray(decode(source.read(), side=_PICTURE))
        except (ImageError, OSError):  # Damaged, or gone: the others will do.
            continue


def _frames(size: Size, count: int, pictures: Sequence[Image.Image], grain: float) -> Iterator[bytes]:
    choose = random.Random(_SEED)  # noqa: S311 - a choice of pictures, no secret
    columns, rows = max(1, size.width // _TILE), max(1, size.height // _TILE)
    width, height = -(-size.width // columns), -(-size.height // rows)
    for _ in range(count):
        frame = Image.new("RGB", (size.width, size.height))
        for place in range(columns * rows):
            tile = choose.choice(pictures).resize((width, height))
            if choose.random() < 0.5:  # noqa: PLR2004 - one in two
                tile = tile.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            frame.paste(tile, (place % columns * width, place // columns * height))
        if grain:
            noise = Image.effect_noise(frame.size, grain).convert("RGB")
            frame = ImageChops.add(frame, noise, offset=-128)
        stream = io.BytesIO()
        frame.save(stream, "JPEG", quality=QUALITY)
        yield stream.getvalue()
