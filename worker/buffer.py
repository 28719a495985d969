"""The worker's buffer of jobs, which chooses the next batch."""

from __future__ import annotations

from collections import deque
from typing import Final

from core.cost import MAX_TOGETHER_MS
from core.lanes import BULK, BULK_SHARE, SINGLE
from worker.transport.delivery import Entry

MAX_ISOLATED: Final = 8
"""Maximum of isolated jobs between two batches.

With a single one, the jobs of a killed worker waited for half a minute under load.
"""


class _Lane:
    """Jobs in order, and the sum of their decode costs."""

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.cost_ms = 0

    def append(self, entry: Entry) -> None:
        self.entries.append(entry)
        self.cost_ms += entry.cost_ms

    def prepend(self, entry: Entry) -> None:
        self.entries.appendleft(entry)
        self.cost_ms += entry.cost_ms

    def pop(self) -> Entry:
        entry = self.entries.popleft()
        self.cost_ms -= entry.cost_ms
        return entry


class _Batch:
    """Jobs within the decode cost of one batch; a job that costs more is the only one of its batch."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._left_ms = MAX_TOGETHER_MS

    def fill(self, lane: _Lane, max_jobs: int) -> int:
        """Move jobs from the lane until there are `max_jobs` or the next costs too much; return the count."""
        before = len(self.entries)
        while lane.entries and len(self.entries) < max_jobs and self._fits(lane.entries[0]):
            entry = lane.pop()
            self.entries.append(entry)
            self._left_ms -= entry.cost_ms
        return len(self.entries) - before

    def _fits(self, entry: Entry) -> bool:
        return not self.entries or (self._left_ms >= 0 and entry.cost_ms <= self._left_ms)


class Buffer:
    """Jobs that wait in the worker, in order of arrival within each lane.

    Single images go first, and bulk uploads always get their share. Isolated jobs, which were delivered
    before, run one by one between batches, so that one that crashes the worker affects no other. A huge image
    is a batch of its own, and alternates with batches of other images.
    """

    def __init__(self) -> None:
        self._waiting = {SINGLE: _Lane(), BULK: _Lane()}
        self._isolated = _Lane()
        self._isolated_was_last = False
        self._bulk_is_due = False  # the last batch had no bulk upload, although one waits

    def add(self, entry: Entry) -> None:
        """Append the job to its lane."""
        self._lane(entry).append(entry)

    def requeue(self, entries: list[Entry]) -> None:
        """Return jobs to the front of their lanes, in the same order."""
        for entry in reversed(entries):
            self._lane(entry).prepend(entry)

    def full(self) -> set[str]:
        """Return the lanes whose jobs in this buffer, also isolated ones, are enough work for a batch."""
        return {
            name
            for name, lane in self._waiting.items()
            if lane.cost_ms + sum(entry.cost_ms for entry in self._isolated.entries if entry.lane == name)
            >= MAX_TOGETHER_MS
        }

    def take(self, max_jobs: int) -> list[Entry]:
        """Remove and return the next batch, at most `max_jobs` (2 or more); empty if no job waits.

        Either no job of it is isolated, or all are, at most `MAX_ISOLATED`.
        """
        batch = _Batch()
        others = any(lane.entries for lane in self._waiting.values())
        if self._isolated.entries and not (self._isolated_was_last and others):
            self._isolated_was_last = True
            batch.fill(self._isolated, MAX_ISOLATED)
        else:
            self._isolated_was_last = False
            self._fill(batch, max_jobs)
        return batch.entries

    def _fill(self, batch: _Batch, max_jobs: int) -> None:
        single, bulk = self._waiting[SINGLE], self._waiting[BULK]
        for_bulk = min(len(bulk.entries), max(1, max_jobs // BULK_SHARE))
        taken = batch.fill(bulk, for_bulk) if self._bulk_is_due else 0
        batch.fill(single, max_jobs - for_bulk + taken)
        taken += batch.fill(bulk, max_jobs)
        self._bulk_is_due = bool(bulk.entries) and not taken

    def _lane(self, entry: Entry) -> _Lane:
        return self._isolated if entry.isolated else self._waiting[entry.lane]
