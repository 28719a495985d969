"""The data folder: what lies where, and the lock that lets one supervisor use it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from infra.local.errors import FolderBusyError, FolderError

REPOSITORY: Final = Path(__file__).resolve().parents[2]

DEFAULT_FOLDER: Final = REPOSITORY / "wastestream-data"

_LEFTOVER_SECONDS: Final = 15.0
"""How long `lock` waits for the processes of a supervisor that was killed: its guard ends them in 10."""

_DYING_SECONDS: Final = 0.5
"""How long `lock` waits for a supervisor that seems to live: it may have been killed a moment ago."""


@dataclass(frozen=True)
class DataFolder:
    """Paths in the data folder. Nothing is read or made before a method is called."""

    path: Path

    @property
    def objects(self) -> Path:
        """What the S3 server serves: one folder per bucket."""
        return self.path / "objects"

    @property
    def redis(self) -> Path:
        """Redis' append-only file and its configuration."""
        return self.path / "redis"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.path / "logs"

    @property
    def credentials(self) -> Path:
        """The secrets made for this folder; only its owner may read them."""
        return self.path / "credentials.json"

    @property
    def worker_env(self) -> Path:
        """What `./wastestream worker --env-file` needs on another machine."""
        return self.path / "worker.env"

    @property
    def state(self) -> Path:
        """What the supervisor says of its processes, for `status`."""
        return self.path / "state.json"

    @property
    def lock_file(self) -> Path:
        """Locked, and holding the supervisor's process id, while a supervisor lives."""
        return self.path / "supervisor.lock"

    def make(self) -> None:
        """Make the folder, with the one for logs.

        Raises:
            FolderError: it is no folder, or cannot be written.
        """
        try:
            for folder in (self.path, self.logs):
                folder.mkdir(parents=True, exist_ok=True)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except (FileExistsError, NotADirectoryError) as error:
            raise FolderError(
                f"{error.filename} is not a folder; name another place with --data-dir."
            ) from error
        except OSError as error:
            raise FolderError(
                f"The data folder {self.path} cannot be written ({error.strerror}); "
                "change its permissions or name another one with --data-dir."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the folder for this process; yields the lock's file descriptor.

        Raises:
            FolderBusyError: another supervisor holds it.
        """
        descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(descriptor)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
            yield descriptor
        finally:
            os.close(descriptor)

    def supervisor(self) -> int | None:
        """Return the process id of the supervisor that holds the folder; None if nothing runs here.

        0 if the supervisor is gone, but not yet all of its processes.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH):
                return None
            pid = int(os.read(descriptor, 20) or 0)
        finally:
            os.close(descriptor)
        return pid if lives(pid) else 0

    def _acquire(self, descriptor: int) -> None:
        since = time.monotonic()
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            pid = int(os.pread(descriptor, 20, 0) or 0)
            if time.monotonic() - since > (_DYING_SECONDS if lives(pid) else _LEFTOVER_SECONDS):
                raise FolderBusyError(
                    f"{self.path} is in use by another `wastestream` (process {pid}). "
                    "Stop that one with `./wastestream down`, or name another folder with --data-dir."
                )
            time.sleep(0.05)  # If it is gone, its guard still holds the lock and is ending what it left.


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(pid: int) -> bool:
    """Return whether the process runs; one that has ended and waits for its parent to ask does not."""
    try:
        return pid > 0 and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
