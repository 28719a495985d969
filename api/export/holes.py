"""Periods of which results are missing: the archive lacks them, and Redis keeps them no longer.

An hour without results has no archived object, so a missing object alone proves nothing. The ledger does:
it counts the settled jobs by hour of acceptance. Those that did not settle after the gap are missing.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from api.export.results import Results, Selection
from core.archive import HOUR_MS
from core.hours import hour_of
from core.redis.ledger import TERMINAL, Ledger
from core.times import timestamp


class Hole(NamedTuple):
    """Hours of which results are missing.

    Attributes:
        start, end: ms since 1970; `end` is not included.
        missing: selected results that are missing, at least.
    """

    start: int
    end: int
    missing: int

    def __str__(self) -> str:
        """Return a sentence for the operator."""
        return (
            f"At least {self.missing:,} results from {timestamp(self.start)} to {timestamp(self.end)} are "
            "missing: the archive does not have them, and they have expired in Redis."
        )


class Holes:
    """Finds the holes in selected results.

    Args:
        results: the results.
        ledger: on the same Redis; hours that it has forgotten show no hole.
        selection: of the results.
        oldest_ms: time of the oldest result that Redis keeps.
    """

    def __init__(self, results: Results, ledger: Ledger, selection: Selection, oldest_ms: int) -> None:
        self._results = results
        self._ledger = ledger
        self._selection = selection
        self._oldest = oldest_ms - oldest_ms % HOUR_MS

    def find(self) -> Iterator[Hole]:
        """Yield the holes, the oldest first."""
        for start, end in _between(self._results.all_hours, self._selection.first_ms, self._oldest):
            stop = min(end, self._selection.end_ms // HOUR_MS * HOUR_MS)
            if start < stop and (settled := self._settled(start, stop)):
                missing = settled - self._late(start, stop, end)
                if missing > 0:
                    yield Hole(start, stop, missing)

    def _settled(self, start: int, stop: int) -> int:
        """Return how many of the jobs accepted in a period have settled."""
        cameras = [self._selection.camera] if self._selection.camera else None
        names = self._ledger.names(hour_of(start), hour_of(stop - 1), cameras, max_rows=sys.maxsize)
        states = self._selection.states or TERMINAL
        return sum(row.counts[state] for row in self._ledger.rows(names) for state in states)

    def _late(self, start: int, stop: int, end: int) -> int:
        """Return how many of the jobs accepted in a period settled after `end`.

        Jobs settle in about the order of acceptance, so the first piece without one ends the search.
        """
        first, last, total = timestamp(start), timestamp(stop), 0
        for documents in self._results.pieces(end):
            late = sum(first <= document["accepted_at"] < last for document in self._selected(documents))
            if not late:
                break
            total += late
        return total

    def _selected(self, documents: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        return filter(self._selection.wants, documents)


def _between(hours: Sequence[int], first: int, oldest: int) -> Iterator[tuple[int, int]]:
    """Yield the periods of whole hours from `first` to `oldest` in which no hour is archived.

    Without a `first`, they begin at the oldest result there is.
    """
    at = -(-first // HOUR_MS) * HOUR_MS if first else min([*hours[:1], oldest])
    for hour in [*(hour for hour in hours if hour < oldest), oldest]:
        if at < hour:
            yield at, hour
        at = max(at, hour + HOUR_MS)
