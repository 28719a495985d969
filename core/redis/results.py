"""Results: settled jobs in the order of the feed, each with its record, and filters of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Final, NamedTuple

from core.cameras import matches
from core.errors import CursorExpiredError
from core.job_document import job_json
from core.jobs import Job, JobState
from core.redis.feed import Cursor, Feed, Settled
from core.redis.job_store import JobStore

_PIECE: Final = 1000  # results read at a time


class Result:
    """A settled job. Shared by all readers of a process, so its JSON is written once.

    Attributes:
        cursor: the cursor after it.
        job: the job; None if its record has expired meanwhile.
    """

    __slots__ = ("_json", "cursor", "job")

    def __init__(self, cursor: Cursor, job: Job | None) -> None:
        self.cursor: Final = cursor
        self.job: Final = job
        self._json = ""

    @property
    def json(self) -> str:
        """The job's JSON document, on one line."""
        if not self._json and self.job is not None:
            self._json = job_json(self.job)
        return self._json


class ResultFilter(NamedTuple):
    """Filter of results.

    Attributes:
        cameras: the cameras; empty for all.
        states: the states; None for all.
        patterns: of the cameras that it may see (`core.cameras.camera_pattern`); None for all.
    """

    cameras: frozenset[str] = frozenset()
    states: frozenset[JobState] | None = None
    patterns: tuple[str, ...] | None = None

    @property
    def is_open(self) -> bool:
        """Whether it lets every result through."""
        return self == _OPEN

    def wants(self, result: Result) -> bool:
        """Return whether a result passes; a result without a record never does."""
        job = result.job
        return (
            job is not None
            and (not self.cameras or job.camera in self.cameras)
            and (self.states is None or job.state in self.states)
            and (self.patterns is None or matches(job.camera, self.patterns))
        )


_OPEN: Final = ResultFilter()


class Page(NamedTuple):
    """Results of a filter, and the cursor behind them.

    Attributes:
        results: the results that passed.
        cursor: the cursor behind the examined results.
        at_end: whether the feed ended there.
    """

    results: list[Result]
    cursor: Cursor
    at_end: bool


def read_page(
    read: Callable[[Cursor, int], list[Result]],
    cursor: Cursor,
    wanted: ResultFilter,
    limit: int,
    max_scanned: int,
) -> Page:
    """Return the next results of a filter, up to the first whose record has expired.

    Args:
        read: reads results after a cursor, as `ResultReader.read`.
        cursor: where to begin.
        wanted: the filter.
        limit: maximum number of results.
        max_scanned: about how many results to examine, before the filter.

    Raises:
        CursorExpiredError: the record of the very next result has expired.
    """
    results: list[Result] = []
    begin = cursor
    scanned, at_end = 0, False
    while len(results) < limit and scanned < max_scanned and not at_end:
        size = min(limit - len(results) if wanted.is_open else _PIECE, _PIECE)
        try:
            piece = read(cursor, size)
        except CursorExpiredError:
            if cursor == begin:
                raise
            break  # The reader first gets what is there; its next call raises.
        whole = unbroken(piece)
        at_end = len(whole) < size and len(whole) == len(piece)
        scanned += len(whole)
        for result in whole:
            if len(results) == limit:
                return Page(results, cursor, at_end=False)
            cursor = result.cursor
            if wanted.wants(result):
                results.append(result)
    return Page(results, cursor, at_end)


def unbroken(results: Sequence[Result]) -> list[Result]:
    """Return the results before the first whose record has expired."""
    return list(takewhile(lambda result: result.job is not None, results))


class ResultReader:
    """Reads results. Safe to share between threads, not across a fork.

    Args:
        feed: names the jobs.
        jobs: have their records.
    """

    def __init__(self, feed: Feed, jobs: JobStore) -> None:
        self.feed: Final = feed
        self._jobs = jobs

    def read(self, cursor: Cursor, limit: int) -> list[Result]:
        """Return the next results, at most `limit`; see `Window.check`. The first has its record.

        Raises:
            CursorExpiredError: the record of the first has expired. Its `oldest` is after all such results
                that follow, so that a reader who goes on there comes forward.
        """
        results = self._with_jobs(self.feed.read(cursor, limit))
        expired = list(takewhile(lambda result: result.job is None, results))
        if expired:
            raise CursorExpiredError(str(max(self.feed.window().restart, expired[-1].cursor)))
        return results

    def wait(self, cursor: Cursor, seconds: float) -> list[Result]:
        """Return the results after a cursor, waiting for one if there is none; see `Feed.wait`."""
        return self._with_jobs(self.feed.wait(cursor, seconds))

    def _with_jobs(self, settled: list[Settled]) -> list[Result]:
        jobs = self._jobs.read_many([each.job_id for each in settled])
        return [Result(each.cursor, job) for each, job in zip(settled, jobs, strict=True)]
