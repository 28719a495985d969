"""Sink that writes each hour of results to storage, so that results outlive Redis."""

from __future__ import annotations

import gzip
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from typing import IO, Final

from core.archive import HOUR_MS, Archive
from core.errors import CursorExpiredError, DataLostError, StorageUnavailableError
from core.redis.feed import Cursor
from core.redis.installation import Installation
from core.redis.job_store import JobStore
from core.redis.recent_results import RecentResults
from core.redis.results import Result, unbroken
from core.redis.sinks import ARCHIVE
from core.storage import ObjectStore
from worker.sinks.runner import DeliveryError

MIN_RETENTION_HOURS: Final = 2.0
"""Minimum hours for which Redis must keep results: an hour is written when it is over."""

GRACE_MS: Final = 5_000
"""Time after which an hour is over though nothing has settled since: Redis' clock may be corrected."""

_PIECE: Final = 1000  # results read at a time
_PIECES: Final = 20  # read in one call, some seconds' work


class ArchiveSink:
    """Collects an hour's results in a temporary file while they settle, and stores it when the hour is over.

    An hour can no longer change as soon as the feed holds a later result, for its times never fall. The
    object is a function of the results alone: one written again after a kill is the same.

    Args:
        recent: the results.
        jobs: on the same Redis.
        objects: storage.
        retention_hours: how long Redis keeps results.
    """

    name = ARCHIVE
    gather = 2.0  # An hour is stored when it is over; until then nothing waits for it.
    max_pause = 60.0

    def __init__(
        self, recent: RecentResults, jobs: JobStore, objects: ObjectStore, *, retention_hours: float
    ) -> None:
        self._recent = recent
        self._jobs = jobs
        self._archive = Archive(objects)
        self._installation = Installation(jobs.client, objects)
        self._retention_hours = retention_hours
        self._hour: _Hour | None = None

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Collect results; store the hour if it is over. See `Sink.deliver`."""
        if self._retention_hours < MIN_RETENTION_HOURS:
            raise DeliveryError(
                f"Redis keeps results for {self._retention_hours:g} hours, and the archive needs "
                f"{MIN_RETENTION_HOURS:g}: raise WASTESTREAM_RETENTION_HOURS, or set WASTESTREAM_ARCHIVE=off."
            )
        try:
            hour = self._hour_after(cursor)
            if hour is None or not self._is_complete(hour):
                return None
            self._installation.compare(make=False)  # Another installation's bucket is no place for results.
            self._archive.store(hour.start, hour.file())
        except (StorageUnavailableError, DataLostError) as error:
            raise DeliveryError(str(error)) from error
        except OSError as error:
            self.close()
            raise DeliveryError(
                f"The temporary file of an hour's results cannot be written in {tempfile.gettempdir()} "
                f"({error.strerror}); make room there, or name another folder in TMPDIR."
            ) from error
        self.close()
        after = Cursor(hour.end)
        if hour.has_gap:  # Stored without what has expired, which the runner counts.
            raise CursorExpiredError(str(max(after, hour.position)))
        return after

    def close(self) -> None:
        """Remove the temporary file."""
        if self._hour is not None:
            self._hour.close()
            self._hour = None

    def _hour_after(self, cursor: Cursor) -> _Hour | None:
        """Return the hour of the first result after a cursor, as collected so far; None without a result."""
        if self._hour is None or self._hour.cursor != cursor:
            self.close()
            first = self._recent.read(cursor, 1)
            self._hour = _Hour(cursor, first[0].cursor.ms) if first else None
        return self._hour

    def _is_complete(self, hour: _Hour) -> bool:
        """Collect more results of an hour; return whether it is complete."""
        for _ in range(_PIECES):
            if hour.complete:
                break
            try:
                piece = self._recent.read(hour.position, _PIECE)
            except CursorExpiredError as error:
                hour.skip(error.oldest)
                continue
            whole = unbroken(piece)
            within = [result for result in whole if result.cursor.ms < hour.end]
            self._write(hour, within)
            at_end = len(piece) < _PIECE and len(whole) == len(piece)
            hour.complete = len(within) < len(whole) or (at_end and self._is_over(hour))
            if at_end:
                break
        return hour.complete

    def _is_over(self, hour: _Hour) -> bool:
        """Return whether an hour is over by Redis' clock, and Redis has no more of it than was read here."""
        return self._jobs.now_ms() >= hour.end + GRACE_MS and not self._recent.feed.read(hour.position, 1)

    def _write(self, hour: _Hour, results: Sequence[Result]) -> None:
        if results:
            hour.write("".join([f"{result.json}\n" for result in results]).encode())
            hour.position = results[-1].cursor


class _Hour:
    """An hour's results so far, packed.

    Attributes:
        cursor: of the sink.
        start, end: of the hour, ms since 1970.
        position: after the last result in the file.
        complete: whether no more can follow.
        has_gap: whether results have expired before they were read.
    """

    def __init__(self, cursor: Cursor, ms: int) -> None:
        self.cursor = self.position = cursor
        self.start = ms - ms % HOUR_MS
        self.end = self.start + HOUR_MS
        self.complete = self.has_gap = False
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - until `close`
        try:  # Without a name and a time, the same results make the same bytes.
            self._packer = gzip.GzipFile("", "wb", fileobj=self._file, mtime=0)
        except OSError:
            self._file.close()
            raise

    def skip(self, oldest: str) -> None:
        """Go on at the first cursor that is valid after results that have expired."""
        self.position = Cursor.parse(oldest) or self.position
        self.has_gap, self.complete = True, self.position.ms >= self.end

    def write(self, lines: bytes) -> None:
        """Append lines."""
        self._packer.write(lines)

    def file(self) -> IO[bytes]:
        """Return the complete file."""
        self._packer.close()
        self._file.flush()
        return self._file

    def close(self) -> None:
        """Remove the file."""
        with suppress(OSError):  # of a full disk: what was not written is not wanted
            self._packer.close()
        with suppress(OSError):
            self._file.close()
