"""Collection of the images of a command line. Reads names and sizes, no image."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Final

from core.errors import WastestreamError
from wastestream.images import MAX_BYTES, read_file

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp"})
"""Suffixes of images in a folder or archive, in any case."""


class CollectError(WastestreamError):
    """Raised when a named path cannot be read or contains no image."""


@dataclass(frozen=True, slots=True)
class Source:
    """One image to send: `size` bytes at `offset` of the file at `path`, shown as `name`."""

    position: int
    name: str
    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """Return the image's bytes, at most `MAX_BYTES` + 1.

        Raises:
            OSError: the file is missing, unreadable, or not a regular file.
        """
        # A single file is read to its end: it may have grown since it was listed.
        return read_file(self.path, self.offset, min(self.size, MAX_BYTES) if self.offset else MAX_BYTES + 1)


def collect(paths: Sequence[Path]) -> list[Source]:
    """Find the images that `paths` name.

    A folder means the images below it, a `.tar` the images in it, both sorted by path. Any other file is
    sent whatever its name: the person named it, so the server decides.

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
    raise error  # os.walk would silently skip an unreadable folder


def _in_archive(path: Path) -> Iterator[_Part]:
    if not path.is_file():
        raise CollectError(
            f"{path} is a pipe or a device, not a regular file; it cannot be read as an archive."
        )
    with tarfile.open(path, "r:") as archive:  # uncompressed, so that members are read in place
        members = [member for member in archive if member.isreg() and _looks_like_image(member.name)]
    for member in sorted(members, key=lambda member: member.name):
        yield f"{path}:{member.name}", path, member.offset_data, member.size


def _looks_like_image(name: str) -> bool:
    path = PurePosixPath(name)
    # "._a.jpg" is not an image: macOS keeps a file's attributes there.
    return path.suffix.lower() in SUFFIXES and not path.name.startswith("._")


def _printable(name: str) -> str:
    """Return `name` with invalid UTF-8 replaced, so that every terminal can show it."""
    return os.fsencode(name).decode("utf-8", "replace")
