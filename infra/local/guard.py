"""Guard: ends the processes of a killed supervisor.

The guard is a program that holds the reading end of a pipe; only the supervisor has the writing end. When
the pipe closes, the supervisor has ended, however that happened. The guard then sends SIGTERM to every
remaining process group, and SIGKILL some seconds later. It also holds the data folder's lock: no new stack
starts while processes of the old one are alive.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final

GRACE_SECONDS: Final = 10.0


class Guard:
    """The supervisor's side: starts the guard, sends it process groups, restarts it if it dies."""

    def __init__(self, *descriptors: int) -> None:
        self._keep_open = descriptors
        self._groups: set[int] = set()
        self._popen = self._spawn()

    def watch(self, group: int) -> None:
        """Have this process group ended when the supervisor has ended."""
        self._groups.add(group)
        self._tell(f"+{group}")

    def forget(self, group: int) -> None:
        """Remove a process group that has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}")

    def check(self) -> None:
        """Restart the guard if it has died."""
        if self._popen.poll() is not None:
            self._close_pipe()
            self._popen = self._spawn()
            for group in self._groups:
                self._tell(f"+{group}")

    def close(self) -> None:
        """Have the guard end the remaining groups, and wait for it."""
        self._close_pipe()
        self._popen.wait()

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
            pass_fds=self._keep_open,
        )

    def _close_pipe(self) -> None:
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def _tell(self, line: str) -> None:
        if self._popen.stdin is not None and not self._popen.stdin.closed:
            with contextlib.suppress(
                BrokenPipeError
            ):  # It has died; `check` sends every group to its successor.
                self._popen.stdin.write(f"{line}\n".encode())


def _alive(groups: set[int]) -> Iterator[int]:
    for group in sorted(groups):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            continue
        yield group


def main() -> None:
    """Read `+GROUP` and `-GROUP` lines until the pipe closes, then end the remaining groups."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        (groups.add if line[0] == "+" else groups.discard)(group)
    for group in _alive(groups):
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(_alive(groups)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for group in _alive(groups):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
