"""Where jobs stand: `JobStore`, on Redis. Every change of state is one atomic Lua call.

Keys (`JobStore` is the only code that names them):

| key | type | holds |
|---|---|---|
| `ws:job:{id}` | hash | the job's record; expires after the retention time, once settled |
| `ws:pending:{lane}` | sorted set | ids of jobs not settled, by when they were accepted (ms, Redis' clock) |
| `ws:ledger:{hour}:{camera}` | hash | counters of the jobs accepted in that hour; hour is UTC, yyyymmddhh |
| `ws:ledgers` | sorted set | which `{hour}:{camera}` there are, by hour |
| `ws:idempotency:{key}` | string | digest and job ids of an upload that named the key |
| `ws:workers` | sorted set | names of workers, by the time each was last seen |
| `ws:settled` | channel | ids of jobs that have just settled |
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from core.errors import IdempotencyConflictError, LedgerUnavailableError
from core.jobs import Job, JobState, NewJob, Outcome, accepted_ms
from core.manifest import Prediction

PREFIX: Final = "ws:"
SETTLED_CHANNEL: Final = PREFIX + "settled"

SINGLE: Final = "single"
BULK: Final = "bulk"
LANES: Final = (SINGLE, BULK)
"""The two ways in: single uploads and bulk uploads, queued apart so that neither waits behind the other."""

_PENDING: Final = {lane: f"{PREFIX}pending:{lane}" for lane in LANES}
_LEDGERS: Final = PREFIX + "ledgers"
_WORKERS: Final = PREFIX + "workers"

WORKER_TTL: Final = 15.0
"""Seconds after which a worker that has not been seen counts as gone; it reports every 5."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key that a client may repeat, and a digest of what it sent with it."""

    key: str
    digest: str


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """Counters of one camera's jobs accepted in one hour (UTC, yyyymmddhh).

    `received`, one for each terminal state and each label, `review`, `duplicates`. A counter that was
    never moved is absent.
    """

    hour: str
    camera: str
    counts: dict[str, int]


def connect(url: str, *, patience: float = 5.0) -> redis.Redis:
    """Return a client that connects at its first call; a call gives up after `patience` seconds or so."""
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=patience,
        socket_connect_timeout=min(patience, 2.0),
        socket_keepalive=True,
        # A broken connection is tried again at once (all our calls may be repeated: scripts check what they
        # find); a Redis that hangs is not, since every attempt would take as long as the first.
        retry=Retry(
            ExponentialBackoff(cap=0.2, base=0.02), retries=3, supported_errors=(redis.ConnectionError,)
        ),
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except RedisError as error:
        # Down, loading its file, out of memory, cut off: what the caller can do is the same.
        raise LedgerUnavailableError(f"Redis does not answer or cannot write ({error}).") from error


class JobStore:
    """Accepts, settles and reads jobs. Safe to share between threads, not across a fork.

    Every method raises `LedgerUnavailableError` while Redis is down or cannot write.
    """

    def __init__(self, client: redis.Redis, *, retention_hours: float = 168.0) -> None:
        self.client = client
        self._retention = int(retention_hours * 3600)
        self._accept = client.register_script(_script("accept"))
        self._settle = client.register_script(_script("settle"))
        self._begin = client.register_script(_script("begin"))
        self._forgive = client.register_script(_script("forgive"))

    def accept(
        self,
        jobs: Sequence[NewJob],
        lane: str,
        queue: str,
        messages: Sequence[str],
        idempotency: Idempotency | None = None,
    ) -> list[str]:
        """Record `jobs` as queued and enqueue `messages`, all or nothing.

        Args:
            jobs: at least one; their images must be stored already.
            lane: one of `LANES`.
            queue: that lane's list in Redis, which the messages are pushed to.
            messages: from `core.queue`, together naming every job.
            idempotency: key of the whole call, if the client gave one.

        Returns:
            The ids that stand for this upload: those of `jobs`, or those accepted under the
            same key before, in which case nothing was recorded or enqueued.

        Raises:
            IdempotencyConflictError: the key was used with other bytes.
        """
        keys = [_PENDING[lane], _LEDGERS, queue]
        value = ""
        if idempotency:
            keys.append(_idempotency_key(idempotency.key))
            value = " ".join([idempotency.digest, *(job.id for job in jobs)])
        arguments: list[str | int] = [PREFIX, value, self._retention, len(jobs)]
        for job in jobs:
            captured = "" if job.captured_ms is None else job.captured_ms
            arguments += [job.id, _hour(accepted_ms(job.id)), job.camera, job.format, job.size, captured]
        with _translated():
            known = self._accept(keys, [*arguments, *messages])
        if known is None or idempotency is None:
            return [job.id for job in jobs]
        return _known_ids(known, idempotency)

    def known(self, idempotency: Idempotency, camera: str) -> list[str] | None:
        """Return the ids accepted under this key, counted as duplicates of this hour, or None.

        Raises:
            IdempotencyConflictError: the key was used with other bytes.
        """
        with _translated():
            value = self.client.get(_idempotency_key(idempotency.key))
        if value is None:
            return None
        ids = _known_ids(cast(str, value), idempotency)
        hour = _hour(time.time_ns() // 1_000_000)
        with _translated(), self.client.pipeline() as pipe:
            pipe.hincrby(f"{PREFIX}ledger:{hour}:{camera}", "duplicates", len(ids))
            pipe.zadd(_LEDGERS, {f"{hour}:{camera}": int(hour)}, nx=True)
            pipe.execute()
        return ids

    def settle(self, outcomes: Sequence[Outcome], model: str) -> list[JobState | None]:
        """Give each job its terminal state, unless it has one: the first wins.

        Args:
            outcomes: one a job.
            model: id of the model that classified.

        Returns:
            The state of each as it now stands; None where the record is gone.
        """
        arguments: list[str | int] = [PREFIX, SETTLED_CHANNEL, self._retention, model]
        for outcome in outcomes:
            arguments += [outcome.job_id, _hour(accepted_ms(outcome.job_id)), outcome.state.value]
            arguments += _prediction_fields(outcome.prediction)
            arguments.append(outcome.error or "")
        with _translated():
            states = self._settle([*_PENDING.values()], arguments)
        return [JobState(state) if state else None for state in states]

    def begin(self, job_id: str) -> JobState | int | None:
        """Count one more start of a job that was delivered before.

        Returns:
            Its state if that is terminal; None if its record is gone; else how often it has
            been started after the first time, this one included.
        """
        with _translated():
            answer = self._begin([_job_key(job_id)])
        if isinstance(answer, int):
            return answer
        return JobState(answer) if answer else None

    def forgive(self, job_ids: Iterable[str]) -> None:
        """Take back one `begin` of each: the job was put back through no fault of its own."""
        keys = [_job_key(job_id) for job_id in job_ids]
        if keys:
            with _translated():
                self._forgive(keys)

    def read(self, job_id: str) -> Job | None:
        """Return the job, or None: never accepted, or past its retention."""
        return self.read_many([job_id])[0]

    def read_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return the jobs in the order asked for, None for each unknown."""
        with _translated(), self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(_job_key(job_id))
            records = pipe.execute()
        return [
            _job(job_id, record) if record else None for job_id, record in zip(job_ids, records, strict=True)
        ]

    def pending(self) -> int:
        """Return how many accepted jobs have not settled."""
        with _translated(), self.client.pipeline(transaction=False) as pipe:
            for key in _PENDING.values():
                pipe.zcard(key)
            return sum(pipe.execute())

    def accepted_at(self, lane: str, job_id: str) -> int | None:
        """Return when a job not yet settled was accepted, ms by Redis' clock; None once it has settled."""
        with _translated():
            score = self.client.zscore(_PENDING[lane], job_id)
        return None if score is None else int(score)

    def pending_before(self, lane: str, milliseconds: int, limit: int) -> list[str]:
        """Return ids of jobs not settled that were accepted before that time, oldest first."""
        with _translated():
            return cast(
                list[str],
                self.client.zrange(
                    _PENDING[lane],
                    "-inf",
                    f"({milliseconds}",
                    byscore=True,
                    offset=0,
                    num=limit,
                ),
            )

    def now_ms(self) -> int:
        """Return Redis' clock, milliseconds since 1970."""
        with _translated():
            seconds, microseconds = self.client.time()
        return seconds * 1000 + microseconds // 1000

    def ledger(self) -> list[LedgerRow]:
        """Return every row, by hour and camera."""
        with _translated():
            names = cast(list[str], self.client.zrange(_LEDGERS, 0, -1))
            with self.client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(f"{PREFIX}ledger:{name}")
                counts = pipe.execute()
        return [_ledger_row(name, row) for name, row in zip(names, counts, strict=True)]

    def ping(self) -> None:
        """Return if Redis answers and can write."""
        with _translated():
            self.client.set(PREFIX + "ping", "1", ex=60)

    def worker_seen(self, name: str) -> None:
        """Record that this worker is alive, and forget those long gone."""
        now = self.now_ms() / 1000
        with _translated(), self.client.pipeline(transaction=False) as pipe:
            pipe.zadd(_WORKERS, {name: now})
            pipe.zremrangebyscore(_WORKERS, "-inf", now - 10 * WORKER_TTL)
            pipe.execute()

    def worker_gone(self, name: str) -> None:
        """Record that this worker has stopped."""
        with _translated():
            self.client.zrem(_WORKERS, name)

    def workers(self) -> list[str]:
        """Return the names of the workers seen lately."""
        with _translated():
            names = self.client.zrangebyscore(_WORKERS, self.now_ms() / 1000 - WORKER_TTL, "+inf")
        return cast(list[str], names)


def _script(name: str) -> str:
    return (files("core") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _job_key(job_id: str) -> str:
    return f"{PREFIX}job:{job_id}"


def _idempotency_key(key: str) -> str:
    return f"{PREFIX}idempotency:{key}"


def _hour(milliseconds: int) -> str:
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y%m%d%H}"


def _known_ids(value: str, idempotency: Idempotency) -> list[str]:
    digest, *ids = value.split(" ")
    if digest != idempotency.digest:
        raise IdempotencyConflictError(
            f"The idempotency key {idempotency.key!r} was used with other bytes; "
            "use a new key for a new image."
        )
    return ids


def _prediction_fields(prediction: Prediction | None) -> list[str | int]:
    if prediction is None:
        return ["", "", ""]
    return [prediction.label, f"{prediction.probability:.6f}", int(prediction.review)]


def _ledger_row(name: str, row: dict[str, str]) -> LedgerRow:
    hour, _, camera = name.partition(":")
    return LedgerRow(hour, camera, {field: int(count) for field, count in row.items()})


def _job(job_id: str, record: dict[str, Any]) -> Job:
    label = record.get("label")
    captured, settled = record.get("captured"), record.get("settled")
    return Job(
        id=job_id,
        state=JobState(record["state"]),
        camera=record["camera"],
        format=record["format"],
        size=int(record["size"]),
        captured_ms=int(captured) if captured else None,
        settled_ms=int(settled) if settled else None,
        prediction=Prediction(label, float(record["probability"]), record["review"] == "1")
        if label
        else None,
        model=record.get("model"),
        error=record.get("error"),
    )
