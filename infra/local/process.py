"""One supervised process: started in a session of its own, watched, ended with its children."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import IO, Final

from core.parent_death import die_with_parent
from infra.local.guard import Guard
from infra.local.logs import rotate, tail
from infra.local.service import Service

QUICK_SECONDS: Final = 10.0
"""A process that ends sooner than this after its start has died quickly, and is started again later."""

MAX_QUICK: Final = 5
"""Quick deaths in a row after which the pause stays at its longest."""

LOOK_SECONDS: Final = 5.0
"""How often a process that is ready is asked whether it is alive."""

SILENT_SECONDS: Final = 15.0
"""A process that has not been alive at every look for this long is killed: it hangs, or does nothing."""

_PAUSES: Final = (0.0, 0.5, 1.0, 3.0, 10.0)
"""Seconds before a start, after the first, second, ... quick death in a row."""


class Process:
    """A service's process, over all its lives."""

    def __init__(self, service: Service, guard: Guard) -> None:
        self.service = service
        self.ready = False
        self.restarts = 0
        self.quick_deaths = 0
        self.started_at = 0.0  # Unix time, seconds
        self.start_at: float | None = None  # time.monotonic() of the next start, when one is planned
        self._guard = guard
        self._look_at = 0.0  # time.monotonic() of the next look
        self._silent_since: float | None = None  # time.monotonic()
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._started = 0.0  # time.monotonic(), which no clock setting moves

    @property
    def pid(self) -> int | None:
        """The process id while the process lives."""
        return self._popen.pid if self._popen is not None else None

    @property
    def age(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self._started

    def start(self) -> None:
        """Start the process.

        Only from the main thread: the kernel ends the process with the thread that started it.
        """
        self.service.before_start()
        rotate(self.service.log)
        with self.service.log.open("ab") as log:
            self._log_start = log.tell()
            self._popen = self._spawn(log)
        self._guard.watch(self._popen.pid)
        self.start_at = None
        self.ready = False
        self.started_at = time.time()
        self._started = time.monotonic()
        self._silent_since = None

    def ended(self) -> int | None:
        """Return the exit status if the process has ended since it was last asked, and end its children.

        Negative for a signal, as in `subprocess`.
        """
        if self._popen is None:
            return None
        status = self._popen.poll()
        if status is None:
            return None
        self._forget()
        quick = self.age < QUICK_SECONDS
        self.quick_deaths = self.quick_deaths + 1 if quick else 0
        return status

    def plan_restart(self) -> float:
        """Plan the next start; return the pause before it in seconds."""
        pause = _PAUSES[min(max(self.quick_deaths, 1), MAX_QUICK) - 1]
        self.start_at = time.monotonic() + pause
        self.restarts += 1
        return pause

    def check_ready(self) -> bool:
        """Ask whether the process is ready, until it has been once; return the answer."""
        if self._popen is not None and not self.ready:
            self.ready = self.service.ready()
        return self.ready

    def is_silent(self) -> bool:
        """Return whether the process has been ready, and has not been alive for `SILENT_SECONDS`."""
        now = time.monotonic()
        if self.pid is None or not self.ready or now < self._look_at:
            return False
        self._look_at = now + LOOK_SECONDS
        self.service.tend()
        if self.service.alive():
            self._silent_since = None
            return False
        self._silent_since = self._silent_since or now
        return now - self._silent_since >= SILENT_SECONDS

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process alone: what it has started is its own to end."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        if self._popen is not None:
            _kill_group(self._popen.pid)
            self._popen.wait()
            self._forget()

    def last_lines(self) -> list[str]:
        """Return the last lines of the log since the last start."""
        return tail(self.service.log, start=self._log_start)

    def _spawn(self, log: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own command
            self.service.command,
            cwd=self.service.folder,
            env={**os.environ, **self.service.environment},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal is the supervisor's to handle.
            preexec_fn=_die_with(os.getpid(), self.service.orphan_signal),  # noqa: PLW1509 - one thread here
        )

    def _forget(self) -> None:
        if self._popen is not None:
            _kill_group(self._popen.pid)
            self._guard.forget(self._popen.pid)
        self._popen = None
        self.ready = False


def _kill_group(group: int) -> None:
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return  # Nobody is left in it; macOS says so with EPERM.


def _die_with(parent: int, number: signal.Signals) -> Callable[[], None]:
    def ask_kernel() -> None:
        die_with_parent(number)
        if os.getppid() != parent:  # It died before the kernel was asked.
            os._exit(1)

    return ask_kernel
