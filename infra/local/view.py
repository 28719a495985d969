"""Terminal output of a running stack: lines, and below them a live line."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable

from rich.console import Console
from rich.live import Live
from rich.text import Text

from core.logs import is_read_by_people, json_line

_REFRESH_SECONDS = 2.0


class View:
    """Prints lines; on a terminal also updates a live line."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._next = 0.0

    def say(self, line: str) -> None:
        """Print a line. A closed pipe must not end the stack."""
        with contextlib.suppress(OSError):
            self._console.print(Text(line))

    def event(self, line: str) -> None:
        """Print a line after the time; as a record of a log where this is no terminal."""
        if is_read_by_people(sys.stdout):
            self.say(f"{time.strftime('%H:%M:%S')}  {line}")
        else:
            self.say(json_line("WARNING", "infra.local", line, "supervisor"))

    def open(self, status: str) -> None:
        """Start the live line if this is a terminal."""
        if sys.stdout.isatty():
            # Refreshed by hand: a refresh thread would be a second thread in a process that forks.
            self._live = Live(Text(status), console=self._console, auto_refresh=False, transient=True)
            self._live.start(refresh=True)

    def update(self, status: Callable[[], str]) -> None:
        """Show a new status, at most every two seconds."""
        if self._live is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + _REFRESH_SECONDS
            with contextlib.suppress(OSError):
                self._live.update(Text(status()), refresh=True)

    def close(self) -> None:
        """Remove the live line."""
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.stop()
            self._live = None
