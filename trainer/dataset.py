"""Image files in the Kaggle layout to arrays: `TRAIN/{O,R}/NAME` and `TEST/{O,R}/NAME`.

The layout is that of techsash/waste-classification-data, as a folder or a tar archive, at any depth. The
folder that holds TRAIN or TEST names the source of its images; one archive may hold several.
"""

from __future__ import annotations

import hashlib
import itertools
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from core.errors import ImageError
from core.images import SIDE, decode
from trainer.errors import DatasetError

Split = Literal["TRAIN", "TEST"]
Progress = Callable[[], None]
"""Called after each image."""

CLASS_FOLDERS: Final = {"O": 0, "R": 1}
"""Organic is biodegradable (0), recyclable is non_biodegradable (1)."""

_CHUNK: Final = 64  # images a decoding process takes at a time


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One file: `name` is `SOURCE/SPLIT/CLASS/FILE`, `label` 0 or 1, `weight` that of its source."""

    name: str
    label: int
    data: bytes
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Decoded images of one split, in the order of their names.

    `pixels` is uint8 (N, side, side, 3), `labels` int64 (N,), `digests` the SHA-256 of each file, `weights`
    float64 (N,), how much each counts in training; `unreadable` names the files left out, with the reason.
    """

    names: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    digests: tuple[str, ...]
    pixels: npt.NDArray[np.uint8]
    unreadable: tuple[str, ...] = ()
    weights: npt.NDArray[np.float64] | None = None

    @property
    def sources(self) -> npt.NDArray[np.str_]:
        """The source of each image, str (N,)."""
        return np.array([name.split("/")[0] for name in self.names], np.str_)

    def __len__(self) -> int:
        return len(self.names)

    def take(self, chosen: npt.NDArray[np.bool_]) -> ImageSet:
        """Return the images where the mask `chosen`, shape (N,), is true."""
        at = np.flatnonzero(chosen)
        return ImageSet(
            tuple(self.names[i] for i in at),
            self.labels[at],
            tuple(self.digests[i] for i in at),
            self.pixels[at],
            weights=None if self.weights is None else self.weights[at],
        )

    def turned(self) -> ImageSet:
        """Return the images turned: the first by 90°, the next by 180°, the next by 270°, and so on."""
        pixels = [np.rot90(image, 1 + at % 3) for at, image in enumerate(self.pixels)]
        return replace(self, pixels=np.stack(pixels))


def read_files(
    sources: Sequence[Path], split: Split, weights: Sequence[float] | None = None
) -> list[ImageFile]:
    """Read the files of one split from folders and tar archives, sorted by name.

    Args:
        sources: folders and archives.
        split: which images.
        weights: one a source: how much each of its images counts; all alike without.

    Raises:
        DatasetError: a source is missing or neither folder nor tar, there is no image of the split,
            or one of the classes has none.
    """
    files = sorted(
        (
            replace(file, weight=weight)
            for source, weight in zip(sources, weights or [1.0] * len(sources), strict=True)
            for file in _walk(source, split)
        ),
        key=lambda file: file.name,
    )
    if not files:
        raise DatasetError(
            f"No {split} images in {_listed(sources)}; expected the folders {split}/O and {split}/R, "
            "or a tar archive of them."
        )
    for first, second in itertools.pairwise(files):
        if first.name == second.name:
            raise DatasetError(
                f"{first.name} is in {_listed(sources)} more than once; give each file a name of its own."
            )
    for folder, label in CLASS_FOLDERS.items():
        if not any(file.label == label for file in files):
            raise DatasetError(
                f"{split}/{folder} in {_listed(sources)} holds no images; both classes are needed."
            )
    return files


def balanced(labels: npt.NDArray[np.int64], weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scale weights so that both classes count alike and the mean is 1: sources hold them in unlike shares.

    Args:
        labels: int64 (N,), both of 0 and 1.
        weights: float64 (N,), above 0.
    """
    total = np.array([weights[labels == label].sum() for label in (0, 1)])
    return np.asarray(weights * (len(labels) / 2 / total)[labels], np.float64)


def fingerprint(*sets: ImageSet) -> str:
    """Return a digest of images: the bytes of each, and its name, which contains the label."""
    lines = sorted(
        f"{name} {digest}\n"
        for image_set in sets
        for name, digest in zip(image_set.names, image_set.digests, strict=True)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def has_split(sources: Sequence[Path], split: Split) -> bool:
    """Say whether any source holds a file of the split; raises as `read_files` for a bad source."""
    return any(True for source in sources for _ in _walk(source, split))


def decode_files(
    files: Sequence[ImageFile], *, side: int = SIDE, processes: int = 1, progress: Progress | None = None
) -> ImageSet:
    """Decode with `core.images.decode` in a pool of processes; unreadable files are left out and named.

    Raises:
        DatasetError: a class has no readable image left.
    """
    pixels = np.empty((len(files), side, side, 3), np.uint8)
    kept: list[int] = []
    unreadable: list[str] = []
    for at, decoded in enumerate(_decoded([file.data for file in files], side, processes)):
        if isinstance(decoded, str):
            unreadable.append(f"{files[at].name}: {decoded}")
        else:
            pixels[len(kept)] = decoded
            kept.append(at)
        if progress is not None:
            progress()
    labels = np.array([files[at].label for at in kept], np.int64)
    for folder, label in CLASS_FOLDERS.items():
        if not np.any(labels == label):
            first = next((line for line in unreadable if f"/{folder}/" in line), "there is none")
            raise DatasetError(f"None of the images in {folder} can be read; first: {first}")
    return ImageSet(
        tuple(files[at].name for at in kept),
        labels,
        tuple(hashlib.sha256(files[at].data).hexdigest() for at in kept),
        pixels[: len(kept)],
        tuple(unreadable),
        np.array([files[at].weight for at in kept]),
    )


def _walk(source: Path, split: Split) -> Iterator[ImageFile]:
    if source.is_dir():
        return _walk_folder(source, split)
    if source.is_file():
        return _walk_tar(source, split)
    raise DatasetError(f"The data {source} does not exist; name a folder or a tar archive.")


def _walk_folder(source: Path, split: Split) -> Iterator[ImageFile]:
    for path in source.rglob("*"):
        place = _place(path.relative_to(source.parent).as_posix(), source, split)
        if place is not None and path.is_file():
            yield ImageFile(*place, path.read_bytes())


def _walk_tar(source: Path, split: Split) -> Iterator[ImageFile]:
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                place = _place(member.name, source, split)
                stream = archive.extractfile(member) if place is not None and member.isfile() else None
                if place is not None and stream is not None:
                    yield ImageFile(*place, stream.read())
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise DatasetError(f"{source} is neither a folder nor a readable tar archive ({error}).") from error


def _place(path: str, source: Path, split: Split) -> tuple[str, int] | None:
    # The last three parts decide, so an archive may wrap the layout in folders of its own.
    *above, folder = PurePosixPath(path).parts[:-2] or ("",)
    parts = (folder, *PurePosixPath(path).parts[-2:])
    if len(parts) < 3 or folder != split or parts[2].startswith("."):  # noqa: PLR2004 - split, class, file
        return None
    if parts[1] not in CLASS_FOLDERS:
        raise DatasetError(f"{split}/{parts[1]} is not a class; expected {split}/O and {split}/R.")
    return "/".join((above[-1] if above else source.absolute().stem, *parts)), CLASS_FOLDERS[parts[1]]


def _decoded(data: list[bytes], side: int, processes: int) -> Iterable[npt.NDArray[np.uint8] | str]:
    task = partial(_decode_one, side=side)
    if processes == 1 or len(data) <= _CHUNK:
        yield from map(task, data)
        return
    # Spawn: TensorFlow's threads may already run in this process, and a fork would copy their locks.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(task, data, chunksize=_CHUNK)


def _decode_one(data: bytes, side: int) -> npt.NDArray[np.uint8] | str:
    try:
        return decode(data, side=side)
    except ImageError as error:  # One bad file must not end a run over thousands; the audit names it.
        return str(error)


def _listed(sources: Sequence[Path]) -> str:
    return ", ".join(str(source) for source in sources)
