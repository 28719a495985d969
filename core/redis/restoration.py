"""Writes a snapshot into an empty Redis: `Restoration`. See `core.redis.snapshot`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

import redis
from redis.client import Pipeline

from core.errors import BackupError
from core.jobs import JobState
from core.lanes import LANES
from core.messages import QUEUES, Envelope
from core.redis import keys
from core.redis.client import translated
from core.redis.installation import RESTORING
from core.redis.snapshot import HASH, STREAM, ZSET, Entry
from core.redis.workers import WorkerRegistry
from core.shards import image_key, object_key

_LAST: Final = frozenset({*keys.PENDING.values(), keys.EXPIRING})
"""Keys that are written in the last step: with them the jobs wait, and workers look for them."""

_HELD: Final = (*keys.PENDING.values(), keys.LEDGERS, keys.CAMERAS, keys.API_KEYS, keys.FEED, keys.ACCEPTED)
"""Keys that no empty Redis has, even if programs use it already."""

_PIECE: Final = 500  # entries written in one call
_MEMBERS: Final = 5000  # members written in one command


class Restoration:
    """Writes entries; the jobs wait from `finish` on. Writing the same once more changes nothing.

    Args:
        client: Redis.

    Every method raises `RedisUnavailableError` while Redis is down.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._waiting: list[Entry] = []
        self._queued: dict[str, Mapping[str, str]] = {}

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

    def clear(self) -> None:
        """Remove the streams of a restoration that was cut off: their entries cannot be written twice."""
        with translated():
            self._client.delete(keys.ACCEPTED, keys.FEED)

    def write(self, entries: Iterable[Entry]) -> None:
        """Write entries, but keep pending jobs for `finish`. What has expired meanwhile is left out."""
        rest = iter(entries)
        while piece := list(islice(rest, _PIECE)):
            with translated(), self._client.pipeline(transaction=False) as pipe:
                for entry in piece:
                    if entry.key in _LAST:
                        self._waiting.append(entry)
                    else:
                        self._note_queued(entry)
                        _write(pipe, entry)
                pipe.execute()

    def queued(self) -> dict[str, str]:
        """Return the id of each job that waits, with the key of its image."""
        return {job_id: _image_key(job_id, record) for job_id, record in self._queued.items()}

    def finish(self, envelope: Envelope, costs_ms: Mapping[str, int], mark: str, taken_ms: int) -> int:
        """Let the jobs wait, with new messages, and open Redis in one step; return the number of jobs.

        Args:
            envelope: makes the messages.
            costs_ms: cost of decoding the image of each job, by id, if it is known.
            mark: id of the installation, which storage has already.
            taken_ms: moment of the snapshot, for `core.redis.recovered`.
        """
        with translated(), self._client.pipeline(transaction=True) as pipe:
            for entry in self._waiting:
                _write(pipe, entry)
            count = 0
            for lane in LANES:
                # All that a restoration which was cut off may have left.
                pipe.delete(QUEUES[lane])
                for ids in self._messages(lane):
                    count += len(ids)
                    pipe.lpush(QUEUES[lane], self._message(envelope, lane, ids, costs_ms))
            pipe.hset(keys.RECOVERY, "until", taken_ms)
            pipe.set(keys.INSTALLATION, mark)
            pipe.execute()
        return count

    def _note_queued(self, entry: Entry) -> None:
        job_id = entry.job_id
        if job_id is not None and entry.value.get("state") == JobState.QUEUED.value:
            self._queued[job_id] = entry.value

    def _messages(self, lane: str) -> Iterator[list[str]]:
        """Yield the jobs of each message, in the order of the queue: those whose images are one object."""
        objects: dict[str, list[str]] = {}
        for entry in self._waiting:
            if entry.key == keys.PENDING[lane]:
                for job_id, _ in entry.value:
                    if job_id in self._queued:
                        key = object_key(_image_key(job_id, self._queued[job_id]))
                        objects.setdefault(key, []).append(job_id)
        yield from objects.values()

    def _message(self, envelope: Envelope, lane: str, ids: Sequence[str], costs_ms: Mapping[str, int]) -> str:
        records = [self._queued[job_id] for job_id in ids]
        expires = [int(record["expires"]) if record.get("expires") else None for record in records]
        return envelope.message(
            [_image_key(job_id, record) for job_id, record in zip(ids, records, strict=True)],
            lane,
            expires if any(expires) else [],
            [costs_ms.get(job_id, 0) for job_id in ids],
        )


def _image_key(job_id: str, record: Mapping[str, str]) -> str:
    return image_key(job_id, record["camera"], record.get("format", ""), record.get("shard", ""))


def _write(pipe: Pipeline, entry: Entry) -> None:
    key, kind, value, expires_ms = entry
    left = None if expires_ms is None else expires_ms - time.time_ns() // 1_000_000
    if left is not None and left <= 0:
        return
    if kind != STREAM:
        pipe.delete(key)
    _WRITES[kind](pipe, key, value)
    if left is not None:
        pipe.pexpire(key, left)


def _write_hash(pipe: Pipeline, key: str, fields: Mapping[str, str]) -> None:
    pipe.hset(key, mapping={name: _raw(value) for name, value in fields.items()})


def _write_zset(pipe: Pipeline, key: str, pairs: Sequence[tuple[str, float]]) -> None:
    for at in range(0, len(pairs), _MEMBERS):
        pipe.zadd(key, dict(pairs[at : at + _MEMBERS]))


def _write_stream(pipe: Pipeline, key: str, page: Sequence[tuple[str, dict[str, str]]]) -> None:
    for entry_id, fields in page:
        pipe.xadd(key, {name: _raw(value) for name, value in fields.items()}, id=entry_id)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")  # hiredis itself packs no surrogates


_WRITES: Final[dict[str, Callable[[Pipeline, str, Any], object]]] = {
    HASH: _write_hash,
    ZSET: _write_zset,
    STREAM: _write_stream,
    "string": lambda pipe, key, value: pipe.set(key, _raw(value)),
    "set": lambda pipe, key, value: pipe.sadd(key, *map(_raw, value)),
    "list": lambda pipe, key, value: pipe.rpush(key, *map(_raw, value)),
}
"""Type of a key to the function that writes it."""
