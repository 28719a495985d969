"""The worker's buffer: which jobs go into the next batch."""

from __future__ import annotations

from collections import deque
from typing import Final

from core.cost import MAX_TOGETHER_MS
from core.lanes import BULK, BULK_SHARE, SINGLE
from worker.transport.delivery import Entry

ALONE_TURN: Final = 8
"""Most jobs in one turn of those that run alone, one after the other.

A turn for each, between full batches, made the jobs of a killed worker wait for half a minute under load.
"""


class _Lane:
    """Jobs in order, and what their images cost to decode together."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.cost_ms = 0

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.cost_ms += entry.cost_ms

    def put_back(self, entry: Entry) -> None:
        self.entries.appendleft(entry)
        self.cost_ms += entry.cost_ms

    def pop(self) -> Entry:
        entry = self.entries.popleft()
        self.cost_ms -= entry.cost_ms
        return entry


class _Batch:
    """Jobs that cost no more to decode than a batch may; a job that costs more by itself is alone in it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._left_ms = MAX_TOGETHER_MS

    def fill(self, lane: _Lane, most: int) -> int:
        """Move jobs from the lane until the batch has `most`, or no room for the next; return how many."""
        before = len(self.entries)
        while lane.entries and len(self.entries) < most and self._has_room(lane.entries[0]):
            entry = lane.pop()
            self.entries.append(entry)
            self._left_ms -= entry.cost_ms
        return len(self.entries) - before

    def _has_room(self, entry: Entry) -> bool:
        return not self.entries or (self._left_ms >= 0 and entry.cost_ms <= self._left_ms)


class Buffer:
    """Jobs that wait in the worker, in order of arrival within each of three lanes.

    Single images go first, bulk uploads always get their share, and jobs that were delivered before run
    alone, one after the other, in turns between batches, so that one that crashes the worker takes no other
    with it. A huge image has a turn by itself, after which others have one.
    """

    def __init__(self) -> None:
        self._waiting = {SINGLE: _Lane(), BULK: _Lane()}
        self._alone = _Lane()
        self._alone_was_last = False
        self._bulk_is_due = False  # the last batch had no room for the next of the bulk uploads

    def add(self, entry: Entry) -> None:
        """Put the job at the end of its lane."""
        self._lane(entry).append(entry)

    def put_back(self, entries: list[Entry]) -> None:
        """Put jobs taken before at the front of their lanes, in the same order."""
        for entry in reversed(entries):
            self._lane(entry).put_back(entry)

    def full(self) -> set[str]:
        """Return the lanes whose jobs here, also those delivered before, cost as much as a batch may."""
        return {
            name
            for name, lane in self._waiting.items()
            if lane.cost_ms + sum(one.cost_ms for one in self._alone.entries if one.lane == name)
            >= MAX_TOGETHER_MS
        }

    def take(self, most: int) -> list[Entry]:
        """Remove and return the next batch: at most `most` jobs (2 or more), none if there are none.

        Either none of them or all, at most `ALONE_TURN`, were delivered before.
        """
        batch = _Batch()
        others = any(lane.entries for lane in self._waiting.values())
        if self._alone.entries and not (self._alone_was_last and others):
            self._alone_was_last = True
            batch.fill(self._alone, ALONE_TURN)
        else:
            self._alone_was_last = False
            self._fill(batch, most)
        return batch.entries

    def _fill(self, batch: _Batch, most: int) -> None:
        single, bulk = self._waiting[SINGLE], self._waiting[BULK]
        for_bulk = min(len(bulk.entries), max(1, most // BULK_SHARE))
        taken = batch.fill(bulk, for_bulk) if self._bulk_is_due else 0
        batch.fill(single, most - for_bulk + taken)
        taken += batch.fill(bulk, most)
        self._bulk_is_due = bool(bulk.entries) and not taken

    def _lane(self, entry: Entry) -> _Lane:
        return self._alone if entry.repeated else self._waiting[entry.lane]
