"""The files of the spool's folder: one for each frame, and a lock."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

from wastestream.gateway import disk
from wastestream.gateway.errors import SpoolError
from wastestream.gateway.frames import DamagedFrameError, Frame, from_file

_SUFFIX: Final = ".frame"

_BALLAST: Final = 1_048_576
"""Bytes of a file that is deleted when the disk is full, so that the index can note what left the spool."""


class FrameFiles:
    """The files of one spool, used by one gateway at a time.

    Args:
        folder: the spool's folder; it is made.

    Raises:
        OSError: the folder cannot be used.
        SpoolError: another gateway uses it.
    """

    def __init__(self, folder: Path) -> None:
        self._frames = folder / "frames"
        self._ballast = folder / "ballast"
        self._frames.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._claim = _claim(folder)
        disk.remove_unfinished(self._frames)
        disk.remove_unfinished(folder)
        self.keep_ballast()

    def close(self) -> None:
        """Let another gateway use the folder."""
        os.close(self._claim)

    def write(self, frames: Iterable[Frame]) -> tuple[list[Frame], OSError | None]:
        """Write files until one fails; return the frames that are safe, and the failure."""
        written: list[Frame] = []
        try:
            for frame in frames:
                disk.write(self._path(frame.id), frame.to_file())
                written.append(frame)
            disk.sync(self._frames)
        except OSError as error:
            return written, error
        return written, None

    def read(self, name: str) -> Frame:
        """Return the frame of a file.

        Raises:
            OSError: it cannot be read.
            DamagedFrameError: it is not what was written.
        """
        return from_file(self._path(name).read_bytes())

    def delete(self, names: Iterable[str]) -> None:
        """Delete files, for good when this returns.

        Raises:
            OSError: the disk takes no changes.
        """
        disk.remove(map(self._path, names))
        disk.sync(self._frames)

    def names(self) -> set[str]:
        """Return the ids of the frames that have a file."""
        return {path.stem for path in self._frames.glob(f"*{_SUFFIX}")}

    def unknown(self, known: Collection[str]) -> list[Frame]:
        """Return the frames of files that are not known; delete files that were not written to their end."""
        frames: list[Frame] = []
        for name in sorted(self.names().difference(known)):
            try:
                frames.append(self.read(name))
            except DamagedFrameError:  # noqa: PERF203 - it was never safe, nor counted
                self._path(name).unlink()
        return frames

    def keep_ballast(self) -> None:
        """Make the ballast if it is not there and the disk has room.

        Raises:
            OSError: it has none.
        """
        if not self._ballast.exists():
            disk.write(self._ballast, bytes(_BALLAST))

    def throw_ballast(self) -> None:
        """Give the index the room of the ballast."""
        with suppress(OSError):  # The disk is read-only, or gone.
            self._ballast.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._frames / f"{name}{_SUFFIX}"


def _claim(folder: Path) -> int:
    """Return a descriptor that keeps the folder for this process."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise SpoolError(f"Another gateway uses the spool {folder}; give each one its own.") from error
    return descriptor
