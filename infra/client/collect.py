"""Which images a command line means, in which groups they travel. Reads names and sizes, no image."""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Final

from core.image_header import MAX_BYTES
from infra.client.errors import CollectError

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""What a file in a folder or archive is called when it is taken for an image; case does not matter."""

GROUP_FILES: Final = 64
"""Images in one upload call; the API takes no more."""

GROUP_BYTES: Final = 16 * 1024 * 1024
"""Bytes in one upload call. 64 frames of 250 kB; a few calls are in memory at a time."""


@dataclass(frozen=True, slots=True)
class Source:
    """One image to be sent: `size` bytes at `offset` of the file at `path`, shown as `name`."""

    position: int
    name: str
    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the image's bytes, at most one more than may be sent.

        Raises:
            OSError: the file was moved, may not be read, or is no regular file.
        """
        # A pipe that nobody writes to would keep a usual `open` waiting.
        with os.fdopen(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is a pipe or a device, not a regular file")
            stream.seek(self.offset)
            # A file on its own is read to its end: it may have grown since it was listed.
            return stream.read(min(self.size, MAX_BYTES) if self.offset else MAX_BYTES + 1)


def collect(paths: Sequence[Path]) -> list[Source]:
    """Find the images that `paths` name.

    A folder stands for the images below it, a `.tar` for the images in it, both sorted by path. Any
    other file is taken whatever it is called: it was named, so the server shall say what it is.

    Raises:
        CollectError: a path cannot be read, or there is no image at all.
    """
    sources = [
        Source(position, _printable(name), path, offset, size)
        for position, (name, path, offset, size) in enumerate(chain.from_iterable(map(_expand, paths)))
    ]
    if not sources:
        where = ", ".join(_printable(str(path)) for path in paths)
        raise CollectError(f"No images in {where}: none of the files ends in {', '.join(sorted(SUFFIXES))}.")
    return sources


def groups(sources: Iterable[Source]) -> Iterator[list[Source]]:
    """Cut `sources` into groups of at most `GROUP_FILES` and, unless it is one file, `GROUP_BYTES`."""
    group: list[Source] = []
    weight = 0
    for source in sources:
        if group and (len(group) == GROUP_FILES or weight + source.size > GROUP_BYTES):
            yield group
            group, weight = [], 0
        group.append(source)
        weight += source.size
    if group:
        yield group


_Part = tuple[str, Path, int, int]  # name, path, offset, size


def _expand(path: Path) -> Iterator[_Part]:
    try:
        if path.is_dir():
            yield from _in_folder(path)
        elif path.suffix.lower() == ".tar":
            yield from _in_archive(path)
        else:
            yield str(path), path, 0, path.stat().st_size
    except OSError as error:
        raise CollectError(f"{error.filename or path} cannot be read: {error.strerror or error}.") from error
    except tarfile.TarError as error:
        raise CollectError(f"{path} cannot be read as a tar archive: {error}.") from error


def _in_folder(folder: Path) -> Iterator[_Part]:
    for parent, folders, files in os.walk(folder, onerror=_raise):
        folders.sort()
        for name in sorted(files):
            if _looks_like_image(name):
                path = Path(parent, name)
                yield str(path), path, 0, path.stat().st_size


def _raise(error: OSError) -> None:
    raise error  # os.walk would leave an unreadable folder out without a word


def _in_archive(path: Path) -> Iterator[_Part]:
    if not path.is_file():
        raise CollectError(
            f"{path} is a pipe or a device, not a regular file; it cannot be read as an archive."
        )
    with tarfile.open(path, "r:") as archive:  # uncompressed: members are then read where they lie
        members = [member for member in archive if member.isreg() and _looks_like_image(member.name)]
    for member in sorted(members, key=lambda member: member.name):
        yield f"{path}:{member.name}", path, member.offset_data, member.size


def _looks_like_image(name: str) -> bool:
    path = PurePosixPath(name)
    # "._a.jpg" is not a picture: macOS keeps a file's attributes there when it copies or packs it.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def _printable(name: str) -> str:
    """Return `name` with bytes that are no UTF-8 replaced, so that every terminal can show it."""
    return os.fsencode(name).decode("utf-8", "replace")
