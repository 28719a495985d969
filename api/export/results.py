"""Results of a period, each once, in the order of settling: archived hours, then the feed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from core.archive import HOUR_MS, Archive
from core.job_document import job_document
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.times import timestamp

_PIECE: Final = 1000  # results read in one pipeline


@dataclass(frozen=True)
class Selection:
    """Results to export.

    Attributes:
        first_ms, end_ms: time of settling, ms since 1970; `end_ms` is not included.
        camera: only results of this camera, if any.
        states: only results with these states; all if empty.
    """

    first_ms: int
    end_ms: int
    camera: str = ""
    states: frozenset[str] = frozenset()

    def take(self, documents: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Yield the selected documents."""
        first, end = timestamp(self.first_ms), timestamp(self.end_ms)  # texts of one length compare as times
        return (
            document
            for document in documents
            if first <= document["settled_at"] < end and self.wants(document)
        )

    def wants(self, document: dict[str, Any]) -> bool:
        """Return whether camera and state of a document are selected."""
        return (not self.camera or document["camera"] == self.camera) and (
            not self.states or document["state"] in self.states
        )


class Results:
    """Selected results, by hour.

    Args:
        archive: the archived hours.
        feed: the results that Redis keeps.
        jobs: their records.
        selection: which of them.
    """

    def __init__(self, archive: Archive, feed: Feed, jobs: JobStore, selection: Selection) -> None:
        self._archive = archive
        self._feed = feed
        self._jobs = jobs
        self._selection = selection
        self.all_hours = archive.hours()
        """Archived hours."""
        self._archived_until = self.all_hours[-1] + HOUR_MS if self.all_hours else 0
        self.hours = [
            hour
            for hour in self.all_hours
            if selection.first_ms < hour + HOUR_MS and hour <= selection.end_ms
        ]
        """Archived hours to read."""

    def archived(self, hour: int) -> Iterator[dict[str, Any]]:
        """Yield the selected results of an archived hour."""
        return self._selection.take(self._lines(hour))

    def recent(self) -> Iterator[dict[str, Any]]:
        """Yield the selected results that are not archived yet."""
        begin = max(self._archived_until, self._selection.first_ms)
        for ms, piece in self._settled(begin):
            yield from self._selection.take(piece)
            if ms >= self._selection.end_ms:
                return

    def pieces(self, ms: int) -> Iterator[Iterator[dict[str, Any]]]:
        """Yield all results that settled from a time on, in pieces: archived hours, then the feed."""
        yield from (self._lines(hour) for hour in self.all_hours if hour >= ms)
        yield from (piece for _, piece in self._settled(max(self._archived_until, ms)))

    def _lines(self, hour: int) -> Iterator[dict[str, Any]]:
        return map(json.loads, self._archive.lines(hour))

    def _settled(self, ms: int) -> Iterator[tuple[int, Iterator[dict[str, Any]]]]:
        """Yield pieces of the feed from a time on, each with the time of its last result."""
        cursor = Cursor(ms)
        while piece := self._feed.read(cursor, _PIECE):
            jobs = self._jobs.read_many([settled.job_id for settled in piece])
            cursor = piece[-1].cursor
            yield cursor.ms, (job_document(job) for job in jobs if job is not None)
