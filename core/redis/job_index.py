"""The list of jobs in order of acceptance: `JobIndex`, on a Redis stream.

`accept.lua` appends one entry for each shard, in the step that accepts its jobs; the shard's name tells the
ids of all of them. Times of entries are those of acceptance by Redis' clock, which never fall.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Self, cast

import redis

from core.jobs import JobState
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script
from core.shards import Shard

MAX_READ: Final = 10_000
"""Maximum jobs that a page examines: about 50 ms of CPU time in Python and 20 ms in Redis."""

_SLACK_MS: Final = 60_000
"""By how much an entry's time may differ from its jobs' `accepted_at`, which is the API's time before it
stored the image: the longest attempt to store it, and the difference of the clocks."""

_MAX_DELAY_MS: Final = 1_800_000 + _SLACK_MS
"""Maximum delay of an entry's time: a direct upload's `accepted_at` is the time of its announcement."""

_ENTRIES: Final = 250  # entries read in one call
_PIECE: Final = 1000  # jobs looked at in one call: 2 ms, for which other clients of Redis wait
_CURSOR: Final = re.compile(r"(\d{1,15})-(\d{1,10})-(\d{1,3})-(\d{1,15})", re.ASCII)


@dataclass(frozen=True, slots=True)
class JobFilter:
    """Filter of a list of jobs. Times are milliseconds since 1970.

    `states` and `camera`: empty for any. `owner`: id of the API key that sent them, empty for any. They were
    accepted at `from_ms` or later, and before `to_ms` unless it is None.
    """

    from_ms: int
    to_ms: int | None = None
    states: frozenset[JobState] = frozenset()
    camera: str = ""
    owner: str = ""

    def covers(self, shard: Shard) -> bool:
        """Return whether the shard's jobs were accepted in the time."""
        return self.from_ms <= shard.accepted_ms and (self.to_ms is None or shard.accepted_ms < self.to_ms)


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the list: before the job with this number of an entry.

    `ms` and `serial`: the entry's id. `until_ms`: where the list ends, by Redis' clock. Jobs accepted while
    someone turns its pages do not belong to it.
    """

    ms: int
    serial: int
    number: int
    until_ms: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a cursor written by `str`.

        Raises:
            ValueError: the text is not a cursor.
        """
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:80]!r} is not a cursor")
        return cls(*map(int, match.groups()))

    def __str__(self) -> str:
        return f"{self.ms}-{self.serial}-{self.number}-{self.until_ms}"

    @property
    def entry(self) -> str:
        """The entry's id."""
        return f"{self.ms}-{self.serial}"

    def at(self, entry: str, number: int = 0) -> Cursor:
        """Return a place in another entry of the same list."""
        ms, serial = map(int, entry.split("-"))
        return Cursor(ms, serial, number, self.until_ms)

    def behind(self, entry: str) -> Cursor:
        """Return the place behind an entry."""
        place = self.at(entry)
        return Cursor(place.ms, place.serial + 1, 0, self.until_ms)


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of the list.

    `ids`: of jobs. `places`: the place before each. `next`: where the next page begins; None at the end.
    """

    ids: Sequence[str]
    places: Sequence[Cursor]
    next: Cursor | None


class JobIndex:
    """Lists jobs, and forgets the oldest. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._matching = client.register_script(load_script("matching"))

    def page(self, wanted: JobFilter, after: Cursor | None, limit: int) -> JobPage:
        """Return up to `limit` jobs behind a place, or from the beginning, that still have a record.

        It examines at most `MAX_READ` jobs, so a page may be short although more jobs follow.
        """
        place = after or self._beginning(wanted)
        matches: list[tuple[Cursor, str]] = []
        read = 0
        while read < MAX_READ:
            entries = self._entries(place.entry, str(place.until_ms))
            candidates = [*self._candidates(entries, place, wanted)]
            read += len(candidates) + len(entries)
            for piece in _pieces(candidates):
                matches += self._matches(piece, wanted)
                if len(matches) > limit:
                    return _page(matches[:limit], matches[limit][0])
            if len(entries) < _ENTRIES:
                return _page(matches, None)
            place = place.behind(entries[-1][0])
        return _page(matches, place)

    def forget(self, before_ms: int) -> int:
        """Forget the oldest entries up to one of which a job has a record; return how many.

        Args:
            before_ms: forget none that was accepted at this time (Redis' clock) or later.
        """
        forgotten = 0
        while entries := self._entries("-", str(before_ms - 1)):
            with translated(), self._client.pipeline(transaction=False) as pipe:
                for _, shard in entries:
                    pipe.exists(*map(keys.job, shard.job_ids if shard else [""]))
                recorded = pipe.execute()
            gone = next((number for number, count in enumerate(recorded) if count), len(entries))
            if gone:
                last = Cursor(0, 0, 0, 0).behind(entries[gone - 1][0])
                with translated():
                    self._client.xtrim(keys.ACCEPTED, minid=last.entry, approximate=False)
            forgotten += gone
            if gone < len(entries):
                break
        return forgotten

    def _beginning(self, wanted: JobFilter) -> Cursor:
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hget(keys.RECOVERY, "listed")
            (seconds, microseconds), listed = pipe.execute()
        now = seconds * 1000 + microseconds // 1000
        until = now
        if wanted.to_ms is not None:  # Jobs that were recovered are listed later than they were accepted.
            until = min(now, max(wanted.to_ms + _MAX_DELAY_MS, int(listed or 0)))
        return Cursor(max(0, wanted.from_ms - _SLACK_MS), 0, 0, max(0, until))

    def _entries(self, first: str, last: str) -> list[tuple[str, Shard | None]]:
        """Return id and shard of the entries between two, the oldest, at most `_ENTRIES`."""
        with translated():
            entries = cast(
                list[tuple[str, dict[str, Any]]],
                self._client.xrange(keys.ACCEPTED, first, last, count=_ENTRIES),
            )
        return [(entry, Shard.named(fields.get("shard", ""))) for entry, fields in entries]

    def _candidates(
        self, entries: Iterable[tuple[str, Shard | None]], place: Cursor, wanted: JobFilter
    ) -> Iterator[tuple[Cursor, str]]:
        for entry, shard in entries:
            if shard is not None and wanted.covers(shard):
                first = place.number if entry == place.entry else 0
                for number, job_id in islice(enumerate(shard.job_ids), first, None):
                    yield place.at(entry, number), job_id

    def _matches(
        self, candidates: Sequence[tuple[Cursor, str]], wanted: JobFilter
    ) -> list[tuple[Cursor, str]]:
        states = "".join(f"{state} " for state in sorted(wanted.states))
        ids = [job_id for _, job_id in candidates]
        with translated():
            numbers = self._matching([], [states, wanted.camera, wanted.owner, *ids])
        return [candidates[number] for number in cast(list[int], numbers)]


def _page(matches: Sequence[tuple[Cursor, str]], following: Cursor | None) -> JobPage:
    return JobPage([job_id for _, job_id in matches], [place for place, _ in matches], following)


def _pieces(candidates: Sequence[tuple[Cursor, str]]) -> Iterator[Sequence[tuple[Cursor, str]]]:
    return (candidates[at : at + _PIECE] for at in range(0, len(candidates), _PIECE))
