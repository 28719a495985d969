"""Signals turned into something the supervisor's one loop can wait for."""

from __future__ import annotations

import os
import select
import signal
from types import FrameType, TracebackType
from typing import Final, Self

_STOP: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Counts requests to stop, and wakes `wait` for them and for the end of a child process."""

    def __init__(self) -> None:
        self.stops = 0
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)

    def __enter__(self) -> Self:
        """Take the signals over."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _STOP:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # Only a handled signal writes to the pipe.
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Give the signals back. A late request to stop changes nothing any more."""
        for number in _STOP:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Return after `seconds`, or sooner if a signal arrives or has arrived since the last call."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            os.read(self._read, 4096)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stops += 1
