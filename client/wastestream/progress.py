"""Progress of a run of many images, and a bar that shows it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """Numbers of images of a run.

    Attributes:
        total: in the iterable; None if it does not know its length.
        taken: taken from the iterable.
        waiting: accepted, and waiting for their results.
        finished: with an outcome.
    """

    total: int | None
    taken: int
    waiting: int
    finished: int


Report = Callable[[Progress], None]


@contextmanager
def reporting(progress: Report | bool) -> Iterator[Report | None]:  # noqa: FBT001 - as callers pass it
    """Yield the function that is called with a run's progress: the caller's, or a bar's.

    Raises:
        ModuleNotFoundError: a bar is wanted, and rich is not installed.
    """
    if not isinstance(progress, bool):
        yield progress
    elif not progress:
        yield None
    else:
        with _bar() as report:
            yield report


@contextmanager
def _bar() -> Iterator[Report]:
    try:
        from rich import progress as rich  # noqa: PLC0415 - an optional package
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("progress=True needs the package rich: pip install rich.") from error
    columns = [rich.TextColumn("images"), rich.BarColumn(), rich.MofNCompleteColumn()]
    with rich.Progress(*columns, rich.TimeRemainingColumn(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda step: bar.update(task, completed=step.finished, total=step.total)
