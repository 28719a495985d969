"""Writes a snapshot into an empty Redis: `Restoration`. See `core.redis.snapshot`.

What makes jobs wait is written under other names. The last step renames it, and opens Redis: one small
transaction, however many jobs there are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice
from typing import Any, Final, cast

import redis
from redis.client import Pipeline

from core.errors import BackupError, RedisUnavailableError
from core.jobs import Job, JobState
from core.lanes import LANES
from core.messages import QUEUES, Envelope
from core.redis import keys
from core.redis.client import translated
from core.redis.installation import RESTORING
from core.redis.job_store import JobStore
from core.redis.snapshot import HASH, STREAM, ZSET, Entry
from core.redis.workers import WorkerRegistry
from core.shards import object_key

_LAST: Final = frozenset({*keys.PENDING.values(), keys.EXPIRING})
"""Keys that are renamed in the last step: with them the jobs wait, and workers look for them."""

_STAGED: Final = (*_LAST, *QUEUES.values())

_HELD: Final = (*keys.PENDING.values(), keys.LEDGERS, keys.CAMERAS, keys.API_KEYS, keys.FEED, keys.ACCEPTED)
"""Keys that no empty Redis has, even if programs use it already."""

_MEMBERS: Final = 10_000  # fields, members and entries of streams that one call writes, about
_JOBS: Final = 1000  # read in one call
_MESSAGES: Final = 100  # pushed in one call


class Restoration:
    """Writes entries; the jobs wait from `open` on. Writing the same once more changes nothing.

    Args:
        client: Redis.

    Every method raises `RedisUnavailableError` while Redis is down.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._jobs = JobStore(client)

    def check_workers(self) -> None:
        """Check that no worker uses this Redis.

        Raises:
            BackupError: one does.
        """
        if workers := WorkerRegistry(self._client).names():
            raise BackupError(
                f"Workers use this Redis ({workers[0]}): stop all programs, restore, then start them."
            )

    def check_empty(self) -> None:
        """Check that Redis holds no installation.

        Raises:
            BackupError: it does.
        """
        with translated():
            held = self._client.exists(keys.INSTALLATION, *_HELD)
        if held:
            raise BackupError("Redis is not empty: it holds an installation. Name an empty one.")

    def begun(self) -> str | None:
        """Return the id that a restoration which was cut off gave this Redis; None if there was none."""
        with translated():
            mark = str(self._client.get(keys.INSTALLATION))
        work, _, new = mark.partition(" ")
        return new if work == RESTORING else None

    def begin(self, digest: str) -> None:
        """Begin, or begin again after a restoration that was cut off.

        Args:
            digest: of the backup's entries.

        Raises:
            BackupError: it was a restoration of another backup.
        """
        with translated():
            self._client.set(keys.RESTORATION, digest, nx=True)
            if self._client.get(keys.RESTORATION) != digest:
                raise BackupError(
                    "A restoration of another backup, or of another state of this one, was cut off in this "
                    "Redis. Restore that one to its end, or name an empty Redis (or data folder)."
                )
            # What cannot be written twice: entries of streams, and messages.
            self._client.delete(keys.ACCEPTED, keys.FEED, keys.RESTORATION_COSTS, *map(keys.staged, _STAGED))

    def write(self, entries: Iterable[Entry]) -> None:
        """Write entries, those of waiting jobs for `open`. What has expired meanwhile is left out."""
        before = ""
        for batch in _batches(entries):
            with translated(), self._client.pipeline(transaction=False) as pipe:
                for entry in batch:
                    _write(pipe, entry, goes_on=entry.kind == ZSET and entry.key == before)
                    before = entry.key
                pipe.execute()

    def waiting(self, job_ids: Sequence[str]) -> list[Job]:
        """Return the jobs of these that will wait; call it after `write`."""
        if not job_ids:
            return []
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for key in keys.PENDING.values():
                pipe.zmscore(keys.staged(key), list(job_ids))
            scores = pipe.execute()
        ids = [job_id for job_id, *found in zip(job_ids, *scores, strict=True) if any(found)]
        return [job for job in self._jobs.read_many(ids) if job and job.state is JobState.QUEUED]

    def note_costs(self, costs_ms: Mapping[str, int]) -> None:
        """Note the costs of decoding images, by job, for `enqueue`."""
        if costs_ms:
            with translated():
                self._client.hset(keys.RESTORATION_COSTS, mapping=cast(dict[Any, Any], costs_ms))

    def enqueue(self, envelope: Envelope) -> int:
        """Make the messages, for `open`; return the number of jobs.

        Raises:
            RedisUnavailableError: also if the connection broke and some may be there twice; restore again.
        """
        count = 0
        for lane in LANES:
            queue, pushed = keys.staged(QUEUES[lane]), 0
            messages = self._messages(lane)
            while piece := list(islice(messages, _MESSAGES)):
                with translated():
                    self._client.lpush(queue, *(_message(envelope, lane, jobs) for jobs in piece))
                pushed += len(piece)
                count += sum(map(len, piece))
            with translated():
                there = self._client.llen(queue)
            if there != pushed:
                raise RedisUnavailableError("The connection to Redis broke meanwhile: restore again.")
        return count

    def open(self, mark: str, taken_ms: int) -> None:
        """Let the jobs wait, and open Redis, in one step.

        Args:
            mark: id of the installation, which storage has already.
            taken_ms: moment of the snapshot, for `core.redis.recovered`.
        """
        with translated():
            there = [key for key in _STAGED if self._client.exists(keys.staged(key))]
            self._client.delete(keys.RESTORATION_COSTS)
            with self._client.pipeline(transaction=True) as pipe:
                for key in there:
                    pipe.rename(keys.staged(key), key)
                pipe.delete(keys.RESTORATION)
                pipe.hset(keys.RECOVERY, "until", taken_ms)
                pipe.set(keys.INSTALLATION, mark)
                pipe.execute()

    def _messages(self, lane: str) -> Iterator[list[tuple[Job, int]]]:
        """Yield the jobs of each message with their costs, in the order of the queue: those of one object."""
        jobs = self._queued(lane)
        for _, group in groupby(jobs, key=lambda item: object_key(item[0].image_key)):
            yield list(group)

    def _queued(self, lane: str) -> Iterator[tuple[Job, int]]:
        """Yield the jobs of a lane with their costs, in the order of the queue."""
        at = 0
        while ids := self._page(lane, at):
            jobs = self._jobs.read_many(ids)
            with translated():
                costs = self._client.hmget(keys.RESTORATION_COSTS, ids)
            for job, cost in zip(jobs, costs, strict=True):
                if job is not None and job.state is JobState.QUEUED:
                    yield job, int(cost or 0)
            at += len(ids)

    def _page(self, lane: str, at: int) -> list[str]:
        with translated():
            ids = self._client.zrange(keys.staged(keys.PENDING[lane]), at, at + _JOBS - 1)
        return cast(list[str], ids)


def _message(envelope: Envelope, lane: str, jobs: Sequence[tuple[Job, int]]) -> str:
    expires = [job.expires_ms for job, _ in jobs]
    costs = [cost for _, cost in jobs]
    return envelope.message([job.image_key for job, _ in jobs], lane, expires if any(expires) else [], costs)


def _batches(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Yield entries that are written in one call, by what they hold: one may hold hundreds."""
    batch: list[Entry] = []
    members = 0
    for entry in entries:
        batch.append(entry)
        members += len(entry.value)
        if members >= _MEMBERS:
            yield batch
            batch, members = [], 0
    yield batch


def _write(pipe: Pipeline, entry: Entry, *, goes_on: bool) -> None:
    """Write an entry.

    Args:
        pipe: takes the commands.
        entry: what is to be written.
        goes_on: whether it is more of the sorted set that was written before it.
    """
    key, kind, value, expires_ms = entry
    left = None if expires_ms is None else expires_ms - time.time_ns() // 1_000_000
    if left is not None and left <= 0:
        return
    if key in _LAST:
        key = keys.staged(key)
    if kind != STREAM and not goes_on:
        pipe.delete(key)
    _WRITES[kind](pipe, key, value)
    if left is not None:
        pipe.pexpire(key, left)


def _write_hash(pipe: Pipeline, key: str, fields: Mapping[str, str]) -> None:
    pipe.hset(key, mapping={name: _raw(value) for name, value in fields.items()})


def _write_stream(pipe: Pipeline, key: str, page: Sequence[tuple[str, dict[str, str]]]) -> None:
    for entry_id, fields in page:
        pipe.xadd(key, {name: _raw(value) for name, value in fields.items()}, id=entry_id)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # hiredis itself packs no surrogates


_WRITES: Final[dict[str, Callable[[Pipeline, str, Any], object]]] = {
    HASH: _write_hash,
    ZSET: lambda pipe, key, pairs: pipe.zadd(key, dict(pairs)),
    STREAM: _write_stream,
    "string": lambda pipe, key, value: pipe.set(key, _raw(value)),
    "set": lambda pipe, key, value: pipe.sadd(key, *map(_raw, value)),
    "list": lambda pipe, key, value: pipe.rpush(key, *map(_raw, value)),
}
"""Type of a key to the function that writes it."""
