"""Disks for tests that fill them, or cut their power.

They are mounted outside pytest's folders: it removes those of earlier runs, and would fail at a disk that a
killed run left mounted.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import pytest

_PREFIX: Final = "wastestream-disk-"

_SHUTDOWN: Final = 0x8004587D
"""EXT4_IOC_SHUTDOWN: the file system writes nothing any more."""

_WITHOUT_FLUSHING: Final = 2
"""EXT4_GOING_FLAGS_NOLOGFLUSH: not even its journal."""


@contextmanager
def small_disk(size: str) -> Iterator[Path]:
    """Mount a disk of `size`, such as 48m; skip the test where mounts are not allowed."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        _run_or_skip(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder])
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> Path:
    """Fill the disk of a folder to its last byte; return the filling file."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@dataclass
class PowerCut:
    """A disk of its own whose power can be cut: an ext4 file system in a file.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path
    image: Path

    def cut(self) -> None:
        """Lose everything that was not on disk, as a power cut does; nothing works until `restore`."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _WITHOUT_FLUSHING))
        finally:
            os.close(descriptor)

    def restore(self) -> None:
        """Mount the disk as it is after the cut."""
        subprocess.run(["umount", str(self.folder)], check=True)
        subprocess.run(["mount", "-o", "loop", str(self.image), str(self.folder)], check=True)

    def fail(self) -> None:
        """Make the disk read-only, as Linux does after an error of the disk, until `restore`."""
        subprocess.run(["mount", "-o", "remount,abort", str(self.folder)], check=True)


@contextmanager
def cuttable_disk() -> Iterator[PowerCut]:
    """Make a disk whose power can be cut; skip the test where mounts are not allowed."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        image, mounted = Path(folder, "disk.img"), Path(folder, "disk")
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(48 * 1_048_576)
        for command in (["mkfs.ext4", "-q", str(image)], ["mount", "-o", "loop", str(image), str(mounted)]):
            _run_or_skip(command)
        try:
            yield PowerCut(mounted, image)
        finally:
            subprocess.run(["umount", "--lazy", str(mounted)], check=True)


def _run_or_skip(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        _skip(f"there is no program `{command[0]}`")
    if done.returncode != 0:
        _skip(f"this user may not mount a disk: {done.stderr}")


def _skip(why: str) -> NoReturn:
    if os.environ.get("CI") and os.geteuid() == 0:
        pytest.fail(f"CI runs as root, but {why}")
    pytest.skip(why)
