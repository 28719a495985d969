"""The worker's buffer: which jobs go into the next batch."""

from __future__ import annotations

from collections import deque
from typing import Final

from core.lanes import BULK, BULK_SHARE
from worker.delivery import Entry

ALONE_TURN: Final = 8
"""Jobs in one turn of those that run alone, one after the other.

A turn for each, between full batches, made the jobs of a killed worker wait for half a minute under load.
"""


class Lanes:
    """Jobs that wait in the worker, in order of arrival within each of three lanes.

    Single images go first, bulk uploads always get their share, and jobs that were delivered before run
    alone, one after the other, in turns between batches, so that one that crashes the worker takes no other
    with it.
    """

    def __init__(self) -> None:
        self._single: deque[Entry] = deque()
        self._bulk: deque[Entry] = deque()
        self._alone: deque[Entry] = deque()
        self._alone_was_last = False

    def add(self, entry: Entry) -> None:
        """Put the job at the end of its lane."""
        self._lane(entry).append(entry)

    def put_back(self, entries: list[Entry]) -> None:
        """Put jobs taken before at the front of their lanes, in the same order."""
        for entry in reversed(entries):
            self._lane(entry).appendleft(entry)

    def take(self, most: int) -> list[Entry]:
        """Remove and return the next batch: at most `most` jobs (2 or more), none if there are none.

        Either none of them or all, at most `ALONE_TURN`, were delivered before.
        """
        if self._alone and not (self._alone_was_last and (self._single or self._bulk)):
            self._alone_was_last = True
            return [self._alone.popleft() for _ in range(min(len(self._alone), ALONE_TURN))]
        self._alone_was_last = False
        for_bulk = min(len(self._bulk), max(1, most // BULK_SHARE))
        singles = min(len(self._single), most - for_bulk)
        bulk = min(len(self._bulk), most - singles)
        return [self._single.popleft() for _ in range(singles)] + [self._bulk.popleft() for _ in range(bulk)]

    def _lane(self, entry: Entry) -> deque[Entry]:
        if entry.repeated:
            return self._alone
        return self._bulk if entry.lane == BULK else self._single
