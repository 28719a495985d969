"""The feed: every settled job, once, in the order of settling, read by cursor.

`settle.lua` appends an entry with the ids that it settled, in the same atomic step. An entry's id begins with
the time of settling. The rest is in the jobs' records, so a job takes 16 bytes of the feed. Entries go when
the records of all their jobs have expired.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final, NamedTuple, Self

import redis
from redis.client import NEVER_DECODE

from core.errors import CursorExpiredError
from core.ids import PACKED_BYTES, unpacked_ids
from core.redis import keys
from core.redis.client import translated
from core.redis.keys import FEED, FEED_START

CURSOR_PATTERN: Final = r"^[0-9]{1,15}-[0-9]{1,10}-[0-9]{1,4}$"
"""Pattern of a cursor as text."""

MAX_GATHERED: Final = 1000
"""Maximum entries read at a time at the feed's end. A reader that got as many results may not have all."""

_CURSOR: Final = re.compile(CURSOR_PATTERN)
_GRACE_MS: Final = 60_000
_PIECE: Final = 100  # entries read at a time
_Entries = list[tuple[bytes, dict[bytes, bytes]]]


class Cursor(NamedTuple):
    """A position in the feed: after the first `taken` jobs of the entry `ms-seq`."""

    ms: int
    seq: int = 0
    taken: int = 0

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse a cursor; return None for any other text."""
        return cls(*map(int, text.split("-"))) if _CURSOR.fullmatch(text) else None

    @classmethod
    def of_entry(cls, entry: bytes) -> Self:
        """Return the cursor before the jobs of the entry with this id."""
        ms, seq = entry.split(b"-")
        return cls(int(ms), int(seq))

    def __str__(self) -> str:
        """Return the cursor as text."""
        return f"{self.ms}-{self.seq}-{self.taken}"


class Settled(NamedTuple):
    """A settled job in the feed, and the cursor behind it."""

    job_id: str
    cursor: Cursor


class Window(NamedTuple):
    """Period of which results are kept.

    Attributes:
        oldest: cursor before the oldest result kept.
        middle: cursor for a reader at the feed's end. Results that settle later come after it, unless the
            clock is set back by half of the retention. So the cursor of a reader that asks now and then does
            not expire while nothing settles.
    """

    oldest: Cursor
    middle: Cursor

    def check(self, cursor: Cursor) -> None:
        """Check that results after a cursor are kept.

        Raises:
            CursorExpiredError: some may have expired.
        """
        if cursor < self.oldest:
            raise CursorExpiredError(str(self.restart))

    @property
    def restart(self) -> Cursor:
        """Cursor for a reader whose cursor has expired: it skips results that expire within a minute."""
        return min(self.oldest._replace(ms=self.oldest.ms + _GRACE_MS), self.middle)


class Feed:
    """Reads the feed. Safe to share between threads, not across a fork.

    Args:
        client: Redis.
        retention_hours: retention of results.
    """

    def __init__(self, client: redis.Redis, *, retention_hours: float = 168.0) -> None:
        self._client = client
        self._retention_ms = round(retention_hours * 3_600_000)

    def window(self) -> Window:
        """Return the period of which results are kept now: shorter where workers keep them for less time."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.get(FEED_START)
            (seconds, microseconds), start = pipe.execute()
        now = seconds * 1000 + microseconds // 1000
        removed = (start and Cursor.parse(start)) or Cursor(0)
        oldest = max(Cursor(now - self._retention_ms), removed)
        return Window(oldest, max(oldest, Cursor(now - self._retention_ms // 2)))

    def forget(self) -> int:
        """Remove the oldest entries, up to one of which a job has a record; return their number.

        So an entry stays as long as the worker that keeps its results longest says.
        """
        removed = 0
        while entries := self._ask("XRANGE", FEED, "-", "+", "COUNT", _PIECE):
            jobs = [(Cursor.of_entry(entry), unpacked_ids(fields[b""])) for entry, fields in entries]
            with translated(), self._client.pipeline(transaction=False) as pipe:
                for _, job_ids in jobs:
                    pipe.exists(*map(keys.job, job_ids))
                recorded = pipe.execute()
            gone = next((number for number, count in enumerate(recorded) if count), len(jobs))
            if gone:
                last, job_ids = jobs[gone - 1]
                self._remove(last._replace(taken=len(job_ids)))
            removed += gone
            if gone < len(jobs):
                break
        return removed

    def _remove(self, last: Cursor) -> None:
        """Remove the entries up to one. Recorded first: readers of what is removed must notice."""
        with translated():
            self._client.set(FEED_START, str(last))
            self._client.xtrim(FEED, minid=f"{last.ms}-{last.seq + 1}", approximate=False)

    def end(self) -> Cursor:
        """Return the cursor after everything that is in the feed now."""
        entries: _Entries = self._ask("XREVRANGE", FEED, "+", "-", "COUNT", 1)
        for entry, fields in entries:
            return Cursor.of_entry(entry)._replace(taken=len(fields[b""]) // PACKED_BYTES)
        return Cursor(0)

    def wait(self, cursor: Cursor, seconds: float) -> list[Settled]:
        """Return the settled jobs of the entries after that of a cursor, waiting for one if there is none.

        Args:
            cursor: after all jobs of an entry, such as `end` or that of the last job returned here.
            seconds: to wait at most; less than the time-out of the client.
        """
        after = f"{cursor.ms}-{cursor.seq}"
        words = ("XREAD", "COUNT", MAX_GATHERED, "BLOCK", round(seconds * 1000), "STREAMS", FEED, after)
        answer: list[tuple[bytes, _Entries]] | None = self._ask(*words)
        return [
            Settled(job_id, Cursor(ms, seq, number))
            for _, entries in answer or ()
            for entry, fields in entries
            for ms, seq in [map(int, entry.split(b"-"))]
            for number, job_id in enumerate(unpacked_ids(fields[b""]), 1)
        ]

    def read(self, cursor: Cursor, limit: int) -> list[Settled]:
        """Return the next settled jobs, at most `limit`; see `Window.check`."""
        return list(islice(self._read(cursor), limit))

    def _read(self, cursor: Cursor) -> Iterator[Settled]:
        for entry, job_ids in self._entries(cursor):
            taken = cursor.taken if (entry.ms, entry.seq) == (cursor.ms, cursor.seq) else 0
            for number, job_id in enumerate(job_ids[taken:], taken + 1):
                yield Settled(job_id, Cursor(entry.ms, entry.seq, number))

    def _entries(self, cursor: Cursor) -> Iterator[tuple[Cursor, list[str]]]:
        """Yield the entries with jobs after a cursor: cursor before the entry, and its jobs."""
        first = f"{cursor.ms}-{cursor.seq}"
        while True:
            entries: _Entries = self._ask("XRANGE", FEED, first, "+", "COUNT", _PIECE)
            for entry, fields in entries:
                here, job_ids = Cursor.of_entry(entry), unpacked_ids(fields[b""])
                if cursor < here._replace(taken=len(job_ids)):
                    yield here, job_ids
            if len(entries) < _PIECE:
                return
            first = f"({entries[-1][0].decode()}"

    def _ask(self, *command: str | int) -> Any:
        """Return the answer to a command; ids in it are bytes, not text."""
        with translated():
            return self._client.execute_command(  # type: ignore[no-untyped-call]
                *command, **{NEVER_DECODE: []}
            )
