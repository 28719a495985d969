"""Terminal output of the trainer: progress bars with the remaining time, and permanent lines."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

Update = Callable[[float, str], None]
"""Called with the work since the last call, in the bar's unit, and a note to show."""

_LINE_EVERY: Final = 120.0  # seconds between two lines of progress in a log


class Reporter:
    """Writes to one console, by default standard error.

    Without a terminal, as in a log, lines with the time left take the place of the bars.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def line(self, text: str) -> None:
        """Print a permanent line."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: float, *, done: int = 0) -> Iterator[Update]:
        """Show a bar of `total` units of work, `done` of them complete, until the block ends."""
        if not self._console.is_terminal:
            yield self._lines(title, total, done)
            return
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
        ) as progress:
            task = progress.add_task(title, total=total, completed=done, note="")
            yield lambda work, note: progress.update(task, advance=work, note=note)

    def _lines(self, title: str, total: float, done: float) -> Update:
        began = last = time.monotonic()
        finished = 0.0

        def update(work: float, note: str) -> None:
            nonlocal last, finished
            finished += work
            now = time.monotonic()
            if now - last < _LINE_EVERY:
                return
            last = now
            left = (total - done - finished) * (now - began) / finished
            self.line(f"{title}: {(done + finished) / total:.0%}, {left / 60:.0f} min left {note}".rstrip())

        return update
