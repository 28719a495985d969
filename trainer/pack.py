"""`python -m trainer.pack`: packs training images into a small archive, for training on another machine.

Each TRAIN image is squeezed to 128 px, as the network sees it, and stored as WebP, in the best quality that
fits. TEST images are left out: they are measured as they are, where the model comes back to.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import click
import numpy as np
from PIL import Image

from core.errors import ImageError, WastestreamError
from core.images import SIDE, decode
from trainer.dataset import ImageFile, read_files
from trainer.errors import DatasetError, OutputError

_QUALITIES: Final = range(90, 9, -5)  # WebP's scale, the best first
_SAMPLE: Final = 400  # images from which the size of all is estimated
_BLOCK: Final = 512  # bytes of a tar archive's header and of its padding's unit
_CHUNK: Final = 64  # images a process takes at a time


def pack(sources: Sequence[Path], out: Path, *, limit: int, processes: int = 2) -> int:
    """Write the archive `out` of at most `limit` bytes; return the chosen quality.

    Args:
        sources: folders or archives with `TRAIN/{O,R}`; names of sources stay as they are.
        out: the `.tar` to write.
        limit: bytes.
        processes: for encoding.

    Raises:
        DatasetError: as `read_files`, the images do not fit at any quality, or two would have one name.
        OutputError: `out` cannot be written.
    """
    files = read_files(sources, "TRAIN")
    names = _names(files)
    sample = [files[at] for at in np.random.default_rng(0).permutation(len(files))[:_SAMPLE]]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for quality in _QUALITIES:
            # Of all images only where they may fit: that takes a minute.
            if _size(_encoded(pool, sample, quality)) * len(files) > limit * len(sample):
                continue
            stored = _encoded(pool, files, quality)
            if _size(stored) <= limit:
                _write(out, names, stored)
                return quality
    raise DatasetError(f"{len(files):,} images do not fit into {limit:,} bytes; allow more, or take fewer.")


def _names(files: Sequence[ImageFile]) -> list[str]:
    """Return the images' names in the archive."""
    before: dict[str, str] = {}
    for file in files:
        name = str(Path(file.name).with_suffix(".webp"))
        if name in before:
            raise DatasetError(f"{before[name]} and {file.name} would both be {name}; rename one of them.")
        before[name] = file.name
    return list(before)


def _encoded(pool: Executor, files: Sequence[ImageFile], quality: int) -> list[bytes | None]:
    return list(pool.map(partial(_encode, quality=quality), (file.data for file in files), chunksize=_CHUNK))


def _size(stored: Sequence[bytes | None]) -> int:
    """Return the size of an archive of these images."""
    blocks = sum(1 + -(-len(data) // _BLOCK) for data in stored if data is not None)
    return -(-(blocks + 2) * _BLOCK // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _write(out: Path, names: Sequence[str], stored: Sequence[bytes | None]) -> None:
    try:
        with tarfile.open(out, "w") as tar:
            for name, data in zip(names, stored, strict=True):
                if data is not None:
                    entry = tarfile.TarInfo(name)
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
    except OSError as error:
        raise OutputError(f"The archive {out} cannot be written ({error.strerror}).") from error


def _encode(data: bytes, quality: int) -> bytes | None:
    """Return the image as WebP, None if it is unreadable: training skips such files too."""
    try:
        pixels = decode(data, side=SIDE)
    except ImageError:
        return None
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "WEBP", quality=quality, method=6)
    return stream.getvalue()


@click.command()
@click.option("--data", "sources", required=True, multiple=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("--mebibytes", type=click.IntRange(1), default=60, show_default=True)
def main(sources: tuple[Path, ...], out: Path, mebibytes: int) -> None:
    """Write the TRAIN images of --data as 128 px WebP to the archive --out."""
    try:
        quality = pack(sources, out, limit=mebibytes << 20)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{out}: {out.stat().st_size / 2**20:.1f} MiB, quality {quality}")


if __name__ == "__main__":
    main()
