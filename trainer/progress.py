"""What a person sees while the trainer works: progress bars with the time left, and lines that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

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
"""Called with the work done since the last call, in the bar's unit, and a note to show."""


class Reporter:
    """Writes to one console. Without a terminal the bars vanish and the lines remain: a log."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: float, *, done: int = 0) -> Iterator[Update]:
        """Show a bar over `total` units of work, of which `done` are behind, until the block ends."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left:"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            disable=not self._console.is_terminal,
        ) as progress:
            task = progress.add_task(title, total=total, completed=done, note="")
            yield lambda work, note: progress.update(task, advance=work, note=note)
