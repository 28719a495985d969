"""Files that are whole and on disk when a function returns, or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

_UNFINISHED: Final = ".unfinished"


def write(path: Path, content: bytes) -> None:
    """Write a file beside its place, and rename it when its bytes are on disk; `sync` keeps the name.

    Raises:
        OSError: the disk is full, read-only or broken; there is no such file then.
    """
    unfinished = path.with_name(path.name + _UNFINISHED)
    try:
        with unfinished.open("wb", buffering=0) as file:
            written = 0
            while written < len(content):
                written += file.write(memoryview(content)[written:])
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError:
        with suppress(OSError):  # It is in the way of nothing, and the next start deletes it.
            unfinished.unlink(missing_ok=True)
        raise


def sync(folder: Path) -> None:
    """Put the names of a folder's files on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(paths: Iterable[Path]) -> None:
    """Delete files that may be gone already."""
    for path in paths:
        path.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what a write left that was cut off."""
    remove(folder.glob(f"*{_UNFINISHED}"))
