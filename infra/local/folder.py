"""The data folder: what lies where, and the lock that lets one supervisor use it."""

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
"""The mask (umask) of processes whose files no other user may read."""

_PROBE_BYTES: Final = 65_536

_OURS: Final = frozenset(
    {
        *("objects", "redis", "logs", "joined"),
        *("credentials.json", "worker.env", "state.json", "supervisor.lock"),
    }
)
"""Names in a data folder; `joined` is where the workers of `worker` keep their logs."""

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
        """What `wastestream worker --env-file` needs on another machine."""
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
        """Make the folder, with the one for logs; close what an older version left open to other users.

        Raises:
            FolderError: it is no folder, or cannot be written.
            FolderFullError: there is no room on its disk.
        """
        with self._translated():
            for folder in (self.path, self.logs):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._close_to_others()
        self.check_writable()

    def check_writable(self) -> None:
        """Return if the folder takes some bytes; raises as `make`."""
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
            _close(self.path)  # With anything else in it, it may be others' too.

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
                    f"The disk of {self.path} is full ({error.strerror}); make room on it."
                ) from error
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

        0 if the supervisor is gone, but not yet all of its processes.

        Raises:
            FolderError: the folder is another user's.
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
        """Return the error for who has not the rights of the folder's owner."""
        return FolderError(f"{self.path} belongs to another user; run this as that one.")

    def _acquire(self, descriptor: int) -> None:
        since = time.monotonic()
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            pid = int(os.pread(descriptor, 20, 0) or 0)
            if time.monotonic() - since > (_DYING_SECONDS if lives(pid) else _LEFTOVER_SECONDS):
                raise FolderBusyError(
                    f"{self.path} is in use by another `wastestream` (process {pid}). "
                    f"Stop that one with `{PROGRAM} down`, or name another folder with --data-dir."
                )
            time.sleep(0.05)  # If it is gone, its guard still holds the lock and is ending what it left.


def _close_all(folder: Path) -> None:
    """Take other users' rights to a folder and all in it away; quick where that has been done."""
    if not _is_open(folder):
        return
    for path, _, names in os.walk(folder, topdown=False):
        for name in names:
            _close(Path(path, name))
        _close(Path(path))  # The folder itself is the last, so a walk that was interrupted is done again.


def _is_open(path: Path) -> bool:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:  # Not made yet, or just gone.
        return False
    return not stat.S_ISLNK(mode) and bool(mode & PRIVATE)


def _close(path: Path) -> None:
    if _is_open(path):
        with contextlib.suppress(FileNotFoundError, PermissionError):  # Just gone, or another user's.
            path.chmod(stat.S_IMODE(path.lstat().st_mode) & ~PRIVATE)


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
