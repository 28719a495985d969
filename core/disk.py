"""Free space on the disk of Redis and storage."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

from core.errors import DiskFullError

_RESERVE: Final = 256 << 20
_SHARE: Final = 20
"""Bytes kept free, or the fraction of a small disk: Redis' file grows while pending jobs are classified."""

_FILES: Final = 1_000
"""Files (inodes) kept free, or the same fraction of a small disk's."""

_FRESH: Final = 1.0
"""Seconds for which an answer of `Disk` holds."""


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of `folder`; raises `OSError` as `os.statvfs`."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def shortage(folder: Path) -> str | None:
    """Return a sentence for a full disk, with the remedy; None while the disk of `folder` has space."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"The disk of {folder} cannot be read ({error.strerror})."
    free, reserve = disk.f_bavail * disk.f_frsize, min(_RESERVE, disk.f_blocks * disk.f_frsize // _SHARE)
    if free < reserve:
        return (
            f"The disk of {folder} is full: {free / 1e6:,.1f} MB are left, and uploads need more than "
            f"{reserve / 1e6:,.1f}. Make room on it; everything goes on by itself then."
        )
    if disk.f_favail < min(_FILES, disk.f_files // _SHARE):
        return (
            f"The disk of {folder} is full: it has no room for more files (inodes). "
            "Remove some; everything goes on by itself then."
        )
    return None


class Disk:
    """The disk of a folder, read once a second at most. Without a folder it is never full."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._last: tuple[float, str | None] = (-_FRESH, None)  # when it was looked at, monotonic seconds

    @property
    def shortage(self) -> str | None:
        """Result of the function `shortage`, at most a second old."""
        if self._folder is not None and time.monotonic() - self._last[0] >= _FRESH:
            self._last = time.monotonic(), shortage(self._folder)
        return self._last[1]

    def check(self) -> None:
        """Return if there is room.

        Raises:
            DiskFullError: there is too little.
        """
        if self.shortage is not None:
            raise DiskFullError(self.shortage)
