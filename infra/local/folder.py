"""The data folder: its paths, and the lock that admits one supervisor."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from infra.local.checkout import PROGRAM
from infra.local.errors import FolderBusyError, FolderError, FolderFullError

PRIVATE: Final = stat.S_IRWXG | stat.S_IRWXO
"""The umask of processes whose files no other user may read."""

_PROBE_BYTES: Final = 65_536

_OURS: Final = frozenset(
    {
        *("objects", "redis", "logs", "joined"),
        *("credentials.json", "worker.env", "state.json", "supervisor.lock"),
    }
)
"""Names in a data folder; `joined` holds the logs of `worker`."""

_LEFTOVER_SECONDS: Final = 15.0
"""Time for which `lock` waits for the processes of a killed supervisor: its guard ends them in 10 s."""

_DYING_SECONDS: Final = 0.5
"""Time for which `lock` waits for a supervisor that seems alive: it may just have been killed."""


@dataclass(frozen=True)
class DataFolder:
    """Paths in the data folder. Only methods touch the disk."""

    path: Path

    @property
    def objects(self) -> Path:
        """Files of the S3 server: one folder per bucket."""
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
        """Secrets of this folder; only its owner may read them."""
        return self.path / "credentials.json"

    @property
    def worker_env(self) -> Path:
        """Variables for `wastestream worker --env-file` on another machine."""
        return self.path / "worker.env"

    @property
    def state(self) -> Path:
        """State of the processes, written by the supervisor for `status`."""
        return self.path / "state.json"

    @property
    def lock_file(self) -> Path:
        """Holds the process id of a running supervisor, which keeps it locked."""
        return self.path / "supervisor.lock"

    def make(self) -> None:
        """Create the folder and its log folder; close files that an older version left open to other users.

        Raises:
            FolderError: it is not a folder, or cannot be written.
            FolderFullError: its disk is full.
        """
        with self._translated():
            for folder in (self.path, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._close_to_others()
        self.check_writable()

    def check_writable(self) -> None:
        """Return if the folder accepts some bytes; raises as `make`."""
        probe = self.path / f".writable-{os.getpid()}"
        with self._translated():
            try:
                probe.write_bytes(bytes(_PROBE_BYTES))
            finally:
                probe.unlink(missing_ok=True)

    def _close_to_others(self) -> None:
        for folder in (self.objects, self.redis, self.logs):
            _close_all(folder)
        if all(path.name in _OURS for path in self.path.iterdir()):
            _close(self.path)  # With other files in it, other users may need it.

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (FileExistsError, NotADirectoryError) as error:
            raise FolderError(
                f"{error.filename} is not a folder; name another place with --data-dir."
            ) from error
        except OSError as error:
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise FolderFullError(
                    f"The disk of {self.path} is full ({error.strerror}); free some space on it."
                ) from error
            raise FolderError(
                f"The data folder {self.path} cannot be written ({error.strerror}); "
                "change its permissions or name another folder with --data-dir."
            ) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[int]:
        """Hold the folder for this process; yields the lock's file descriptor.

        Raises:
            FolderBusyError: another supervisor holds it.
        """
        with self._translated():
            descriptor = os.open(self.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(descriptor)
            with self._translated():
                os.ftruncate(descriptor, 0)
                os.write(descriptor, b"%d\n" % os.getpid())
            yield descriptor
        finally:
            os.close(descriptor)

    def supervisor(self) -> int | None:
        """Return the process id of the supervisor that holds the folder; None if nothing runs here.

        0 if the supervisor has ended, but not all of its processes.

        Raises:
            FolderError: the folder belongs to another user.
        """
        try:
            descriptor = os.open(self.lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise self.foreign() from error
        try:
            if _try_lock(descriptor, fcntl.LOCK_SH):
                return None
            pid = int(os.read(descriptor, 20) or 0)
        finally:
            os.close(descriptor)
        return pid if lives(pid) else 0

    def foreign(self) -> FolderError:
        """Return the error for a user without the rights of the folder's owner."""
        return FolderError(f"{self.path} belongs to another user; run this command as that user.")

    def _acquire(self, descriptor: int) -> None:
        since = time.monotonic()
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            pid = int(os.pread(descriptor, 20, 0) or 0)
            if time.monotonic() - since > (_DYING_SECONDS if lives(pid) else _LEFTOVER_SECONDS):
                raise FolderBusyError(
                    f"{self.path} is in use by another `wastestream` (process {pid}). "
                    f"Stop it with `{PROGRAM} down`, or name another folder with --data-dir."
                )
            time.sleep(0.05)  # The guard of a dead supervisor holds the lock until its processes have ended.


def _close_all(folder: Path) -> None:
    """Revoke other users' rights to a folder and its files; quick if already done."""
    if not _is_open(folder):
        return
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            _close(Path(path, name))
        _close(Path(path))  # The folder itself comes last, so an interrupted walk is repeated.


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # Not created yet, or just removed.
        return False
    return not stat.S_ISLNK(mode) and bool(mode & PRIVATE)


def _close(path: Path) -> None:
    if _is_open(path):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # Just removed, or another user's.
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~PRIVATE)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lives(pid: int) -> bool:
    """Return whether the process runs. A zombie does not."""
    try:
        return pid > 0 and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
