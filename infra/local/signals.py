"""Signals as events for the supervisor's single loop."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType
from typing import Final, Self

_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Counts stop signals; a stop signal or the end of a child process wakes `wait`."""

    def __init__(self) -> None:
        self.stops = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __enter__(self) -> Self:
        """Install the handlers."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        handlers = dict.fromkeys(_STOP, self._stop)
        handlers[signal.SIGCHLD] = lambda _number, _frame: None  # Only a handled signal writes to the pipe.
        self._before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the previous handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or earlier at a signal since the last call."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            os.read(self._read, 4096)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1
