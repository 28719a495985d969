"""A snapshot of Redis, read by plain commands while everything runs.

Neither replication (`SYNC`) nor a file of the server is needed: managed services allow none of them, and
a server of another version could not read it. What changes together is read in one transaction. Then
follow the records of jobs. Those that settled after it are put back to `queued`, and those that were
accepted later are left out. So jobs, pending jobs and ledger are of one moment.

Celery's messages are not copied: `core.redis.restoration` makes new ones for the pending jobs.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import IO, Any, Final, NamedTuple, TypeVar, cast

import redis
from redis.client import Pipeline

from core.errors import BackupError
from core.hours import hour_of
from core.ids import accepted_ms
from core.jobs import JobState
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script
from core.shards import Shard
from core.temporary import temporary_files

HASH: Final = "hash"
ZSET: Final = "zset"
STREAM: Final = "stream"

_SETS: Final = (keys.LEDGERS, keys.CAMERAS, *keys.PENDING.values(), keys.EXPIRING)
_HASHES: Final = (keys.SERVICE_RATE, keys.CAMERA_KEYS, keys.KEY_CAMERAS)
_STREAMS: Final = (keys.ACCEPTED, keys.FEED)
_OF_ONE_MOMENT: Final = frozenset({*_SETS, *_HASHES, *_STREAMS})

_PASSING: Final = frozenset(
    {keys.INSTALLATION, keys.WITHDRAWN, keys.STREAMS, keys.WAITING, keys.WORKERS, keys.PING}
)
"""Keys that are not copied: they are about running processes, or about messages."""

_SLACK_MS: Final = 7_200_000
"""Age up to which a row of the ledger may change without a pending job: uploads, direct ones, clocks."""

_LATER_FIELDS: Final = frozenset(
    {"state", "settled", "label", "probability", "review", "model", "error", "attempts", "start"}
)
"""Fields of a record that acceptance did not write as they are."""

_T = TypeVar("_T")

_PIECE: Final = 500  # records read in one call, and members of a sorted set in one entry


class Entry(NamedTuple):
    """A key and what it holds.

    Attributes:
        key: its name.
        kind: its type, as Redis' `TYPE` names it.
        value: a hash as a dict, a sorted set as pairs of member and score, a stream as pairs of id and
            fields, a list or set as a list, a string as it is. Bytes that are no UTF-8 are surrogates.
        expires_ms: when it expires, ms since 1970; None if it does not.
    """

    key: str
    kind: str
    value: Any
    expires_ms: int | None = None

    @property
    def job_id(self) -> str | None:
        """Id of the job of which it is the record."""
        return keys.job_of(self.key)

    def to_line(self) -> bytes:
        """Return the entry as a line of JSON."""
        return json.dumps(self, separators=(",", ":")).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> Entry:
        """Return the entry of a line.

        Raises:
            ValueError, TypeError: it is not one.
        """
        return cls(*json.loads(line))


class Snapshot:
    """Everything that Redis holds of an installation, of the moment `taken_ms` (Redis' clock).

    Args:
        client: of `core.redis.client.connect(..., lossless=True)`.

    Raises:
        RedisUnavailableError: Redis is down, or its user lacks a right.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._first_hour = hour_of(self._oldest_pending_ms() - _SLACK_MS)
        *contents, counters, ends, (seconds, microseconds) = self._of_one_moment()
        self.taken_ms = seconds * 1000 + microseconds // 1000
        self._last = {stream: end[0][0] if end else "" for stream, end in zip(_STREAMS, ends, strict=True)}
        kinds = [ZSET] * len(_SETS) + [HASH] * len(_HASHES)
        self._entries = [*map(Entry, (*_SETS, *_HASHES), kinds, contents)]
        self._entries += [Entry(key, HASH, _as_dict(flat)) for key, flat in counters]
        self.pending = {
            lane: [job_id for job_id, _ in entry.value]
            for lane, key in keys.PENDING.items()
            for entry in self._entries
            if entry.key == key
        }
        """Ids of the jobs that had not settled, by lane, in the order of the queue."""

    def entries(self) -> Iterator[Entry]:
        """Yield all entries; records of jobs last.

        Raises:
            BackupError: Redis forgot records of pending jobs meanwhile, or the disk of temporary files is
                full.
        """
        for entry in self._entries:
            yield from _split(entry)
        yield from self._old_rows()
        with temporary_files(), tempfile.TemporaryFile() as records:
            yield from self._scan(records)
            later = self._accepted_later()
            for stream in _STREAMS:
                yield from self._stream(stream)
            yield from self._records(records, later)

    def _of_one_moment(self) -> list[Any]:
        """Return sorted sets, hashes, counters, ends of streams and the time, read in one transaction."""
        script = self._client.register_script(load_script("counters"))
        with translated(), self._client.pipeline(transaction=True) as pipe:
            for key in _SETS:
                pipe.zrange(key, 0, -1, withscores=True)
            for key in _HASHES:
                pipe.hgetall(key)
            script([keys.LEDGERS, keys.CAMERAS], [self._first_hour], client=pipe)
            for stream in _STREAMS:
                pipe.xrevrange(stream, count=1)
            pipe.time()
            *answers, now = pipe.execute()
        at = len(answers) - len(_STREAMS)
        return [*answers[:at], answers[at:], now]

    def _oldest_pending_ms(self) -> int:
        oldest = time.time_ns() // 1_000_000
        for key in keys.PENDING.values():
            with translated():
                ids = cast(list[str], self._client.zrange(key, 0, 0))
            oldest = min([oldest, *map(accepted_ms, ids)])
        return oldest

    def _old_rows(self) -> Iterator[Entry]:
        (rows,) = (entry.value for entry in self._entries if entry.key == keys.LEDGERS)
        names = (keys.LEDGER + name for name, hour in rows if hour < float(self._first_hour))
        for piece in _pieces(names):
            yield from self._hashes(piece)

    def _scan(self, records: IO[bytes]) -> Iterator[Entry]:
        """Yield what stands by itself; write records of jobs, and idempotency keys, to a file."""
        found = (key for page in self._pages() for key in page if not self._is_read(key))
        for piece in _pieces(found):
            jobs = [key for key in piece if keys.job_of(key)]
            for entry in self._hashes(jobs):
                records.write(entry.to_line())
            for entry in self._others([key for key in piece if not keys.job_of(key)]):
                if keys.is_idempotency(entry.key):
                    records.write(entry.to_line())
                else:
                    yield entry

    def _pages(self) -> Iterator[list[str]]:
        cursor = 0
        while True:
            with translated():
                cursor, page = self._client.scan(cursor, match=f"{keys.PREFIX}*", count=_PIECE)
            yield cast(list[str], page)
            if not cursor:
                return

    @staticmethod
    def _is_read(key: str) -> bool:
        return key in _OF_ONE_MOMENT or key in _PASSING or keys.is_counter(key) or keys.is_passing(key)

    def _hashes(self, names: Sequence[str]) -> Iterator[Entry]:
        yield from self._read([(name, HASH) for name in names])

    def _others(self, names: Sequence[str]) -> Iterator[Entry]:
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.type(name)
            kinds = pipe.execute()
        yield from self._read([*zip(names, kinds, strict=True)])

    def _read(self, wanted: Sequence[tuple[str, str]]) -> Iterator[Entry]:
        """Yield the entries of these names and types; a key that has expired meanwhile has none."""
        wanted = [(name, kind) for name, kind in wanted if kind in _READS]
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name, kind in wanted:
                pipe.pttl(name)
                _READS[kind](pipe, name)
            answers = pipe.execute()
            now = time.time_ns() // 1_000_000
        for (name, kind), ttl, value in zip(wanted, answers[::2], answers[1::2], strict=True):
            if value:
                yield Entry(
                    name, kind, sorted(value) if kind == "set" else value, now + ttl if ttl >= 0 else None
                )

    def _accepted_later(self) -> set[str]:
        """Return ids of the jobs that were accepted after the moment of the snapshot."""
        after = self._last[keys.ACCEPTED]
        return {
            job_id
            for page in self._xrange(keys.ACCEPTED, f"({after}" if after else "-", "+")
            for _, fields in page
            if (shard := Shard.named(fields.get("shard", "")))
            for job_id in shard.job_ids
        }

    def _stream(self, stream: str) -> Iterator[Entry]:
        if last := self._last[stream]:
            for page in self._xrange(stream, "-", last):
                yield Entry(stream, STREAM, page)

    def _xrange(self, stream: str, first: str, last: str) -> Iterator[list[tuple[str, dict[str, str]]]]:
        while True:
            with translated():
                page = cast(
                    list[tuple[str, dict[str, str]]], self._client.xrange(stream, first, last, count=_PIECE)
                )
            if page:
                yield page
            if len(page) < _PIECE:
                return
            first = f"({page[-1][0]}"

    def _records(self, records: IO[bytes], later: set[str]) -> Iterator[Entry]:
        """Yield records and idempotency keys as they were; a record that was read twice, twice."""
        pending = {job_id: False for ids in self.pending.values() for job_id in ids}  # whether it was read
        records.seek(0)
        for line in records:
            entry = Entry.from_line(line)
            job_id = entry.job_id
            if job_id is None:  # An idempotency key: a digest and ids of jobs.
                if later.isdisjoint(entry.value.split(" ")[1:]):
                    yield entry
            elif job_id in pending:
                pending[job_id] = True
                yield Entry(entry.key, HASH, _as_queued(entry.value))
            elif job_id not in later:
                yield entry
        if missing := len(pending) - sum(pending.values()):
            raise BackupError(
                f"Redis forgot {missing:,} waiting jobs while they were copied: they settled, and their "
                "retention is short. Run the backup again, or raise WASTESTREAM_RETENTION_HOURS."
            )


_READS: Final[dict[str, Callable[[Pipeline, str], object]]] = {
    HASH: lambda pipe, name: pipe.hgetall(name),
    ZSET: lambda pipe, name: pipe.zrange(name, 0, -1, withscores=True),
    "string": lambda pipe, name: pipe.get(name),
    "set": lambda pipe, name: pipe.smembers(name),
    "list": lambda pipe, name: pipe.lrange(name, 0, -1),
}
"""Type of a key to the command that reads it."""


def _split(entry: Entry) -> Iterator[Entry]:
    """Yield an entry, a large sorted set in several: none of them grows with the number of jobs."""
    if entry.kind == ZSET:
        for pairs in _pieces(entry.value):
            yield entry._replace(value=pairs)
    elif entry.value:
        yield entry


def _as_queued(record: dict[str, str]) -> dict[str, str]:
    kept = {field: value for field, value in record.items() if field not in _LATER_FIELDS}
    return {"state": JobState.QUEUED.value, **kept}


def _as_dict(flat: Sequence[str]) -> dict[str, str]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _pieces(items: Iterable[_T]) -> Iterator[list[_T]]:
    items = iter(items)
    while piece := list(islice(items, _PIECE)):
        yield piece
