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
            if first <= document["settled_at"] < end
            and (not self.camera or document["camera"] == self.camera)
            and (not self.states or document["state"] in self.states)
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
        archived = archive.hours()
        self._archived_until = archived[-1] + HOUR_MS if archived else 0
        self.hours = [
            hour for hour in archived if selection.first_ms < hour + HOUR_MS and hour <= selection.end_ms
        ]
        """Archived hours to read."""

    def archived(self, hour: int) -> Iterator[dict[str, Any]]:
        """Yield the selected results of an archived hour."""
        return self._selection.take(map(json.loads, self._archive.lines(hour)))

    def recent(self) -> Iterator[dict[str, Any]]:
        """Yield the selected results that are not archived yet."""
        return self._selection.take(self._settled())

    def _settled(self) -> Iterator[dict[str, Any]]:
        cursor = Cursor(max(self._archived_until, self._selection.first_ms))
        while piece := self._feed.read(cursor, _PIECE):
            for job in self._jobs.read_many([settled.job_id for settled in piece]):
                if job is not None:
                    yield job_document(job)
            cursor = piece[-1].cursor
            if cursor.ms >= self._selection.end_ms:
                return
