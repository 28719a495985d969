"""Where jobs stand: `JobStore`, on Redis. Every change of state is one atomic Lua call.

Keys (this module and `core.redis.ledger` are the only code that names them):

| key | type | holds |
|---|---|---|
| `ws:job:{id}` | hash | the job's record; expires after the retention time, once settled |
| `ws:pending:{lane}` | sorted set | ids of jobs not settled, by when accepted: ms, never falling |
| `ws:expiring` | sorted set | ids of jobs not settled that become too old, by when (ms) |
| `ws:withdrawn` | sorted set | ids of jobs cancelled while their messages are under way, by when (ms) |
| `ws:drain` | hash | how fast queue and lanes drain (`core.redis.eta`); `last` time given in `ws:pending` |
| `ws:ledger:{hour}:{camera}` | hash | counters of the jobs accepted in that hour; hour is UTC, yyyymmddhh |
| `ws:ledgers` | sorted set | which `{hour}:{camera}` there are, by hour |
| `ws:totals:{camera}` | hash | the same counters over all hours |
| `ws:cameras` | sorted set | which cameras there are, by the last hour in which they sent something |
| `ws:cameras:key` | hash | camera to the id of the API key that brought it, if one did |
| `ws:keys:cameras` | hash | API key's id to how many of the cameras there are it brought |
| `ws:idempotency:{owner}:{key}` | string | digest and job ids of an upload that named the key |
| `ws:counted:{word}` | string | that a call has counted its duplicates, for a minute |
| `ws:rate:{API key's id}` | string | when the key's allowance is whole again (ms, Redis' clock) |
| `ws:workers` | sorted set | names of workers, by the time each was last seen |
| `ws:worker:{name}` | hash | what that worker has done (`worker.stats`), and when it said so |
| `ws:installation` | string | the installation's id: see `core.installation` |
| `ws:settled` | channel | ids of jobs that have just settled |
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any, Final, cast

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import OutOfMemoryError, RedisError
from redis.retry import Retry

from core.errors import (
    DataLostError,
    IdempotencyConflictError,
    QueueFullError,
    RateLimitError,
    RedisFullError,
    RedisUnavailableError,
    TooManyCamerasError,
)
from core.jobs import TOO_OLD, Job, JobState, NewJob, Outcome, Shard, accepted_ms
from core.lanes import LANES, room
from core.model.manifest import Prediction
from core.redis.eta import Drain, Place

PREFIX: Final = "ws:"
SETTLED_CHANNEL: Final = PREFIX + "settled"

PENDING: Final = {lane: f"{PREFIX}pending:{lane}" for lane in LANES}
"""Key of the sorted set of each lane's jobs that have not settled."""

_LEDGERS: Final = PREFIX + "ledgers"
_CAMERAS: Final = PREFIX + "cameras"
_DRAIN: Final = PREFIX + "drain"
_DRAIN_FIELDS: Final = ("jobs", "ms", "since")
_EXPIRING: Final = PREFIX + "expiring"
_WITHDRAWN: Final = PREFIX + "withdrawn"
_OUT_OF_MEMORY: Final = "-OOM "  # how Redis 6 words it when a script meets it
_WORKERS: Final = PREFIX + "workers"
_NOTHING: Final[Mapping[str, float]] = {}

LONGEST_WAIT: Final = 60.0
UNKNOWN_WAIT: Final = 5.0
"""Seconds after which to come back to a full queue: at most, and while nobody is seen to work it off."""

_ROOM_SHARE: Final = 100
"""One in this many places of the queue is to be free when those who were refused come back."""

_MEASURES: Final = 3  # numbers by which Redis tells the measure of the drain
_OF_LANE: Final = 2  # numbers by which it tells that of a lane

WORKER_TTL: Final = 15.0
"""Seconds after which a worker that has not been seen counts as gone; it reports every second."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A key that a client may repeat, and a digest of what it sent with it.

    `owner`: whose key it is, such as an API key's id, since two clients may choose the same.
    """

    key: str
    digest: str
    owner: str = ""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """An allowance of `burst` images that grows by `rate` a second. `name` tells it from others'."""

    name: str
    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of an upload.

    `ids` stand for it: those of its jobs, with their places in the queue, or of those accepted under the
    same idempotency key before, without. If it was taken from a rate limit, `left` images may follow at
    once, and in `whole_in` seconds the limit is whole again.
    """

    ids: list[str]
    places: list[Place] | None = None
    left: int | None = None
    whole_in: float | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs that are accepted all or none, such as those of one upload; their images must be stored already.

    `jobs`: at least one. `idempotency`: key of the whole, if the client gave one. `limit`: what the client
    may send; a submission is taken while one image is left, and may overdraw it. `owner`: id of the client's
    API key, empty without one.
    """

    jobs: Sequence[NewJob]
    idempotency: Idempotency | None = None
    limit: RateLimit | None = None
    owner: str = ""


Refusal = IdempotencyConflictError | QueueFullError | RateLimitError | TooManyCamerasError
"""Why nothing of a submission was accepted."""


def connect(url: str, *, timeout: float = 5.0, kind: type[redis.Redis] = redis.Redis) -> redis.Redis:
    """Return a client that connects at its first call; a call gives up after `timeout` seconds or so."""
    return kind.from_url(
        url,
        decode_responses=True,
        socket_timeout=timeout,
        socket_connect_timeout=min(timeout, 2.0),
        socket_keepalive=True,
        # A broken connection is tried again at once (all our calls may be repeated: scripts check what they
        # find); a Redis that hangs is not, since every attempt would take as long as the first.
        retry=Retry(
            ExponentialBackoff(cap=0.2, base=0.02), retries=3, supported_errors=(redis.ConnectionError,)
        ),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Make every error of Redis in the block a `RedisUnavailableError`."""
    try:
        yield
    except RedisError as error:
        if isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY in str(error):
            raise RedisFullError("Redis has no memory left: `maxmemory` is reached.") from error
        # Down, loading its file, out of memory, cut off: what the caller can do is the same.
        raise RedisUnavailableError(f"Redis does not answer or cannot write ({error}).") from error


class JobStore:
    """Accepts, settles and reads jobs. Safe to share between threads, not across a fork.

    Every method raises `RedisUnavailableError` while Redis is down or cannot write.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        retention_hours: float = 168.0,
        max_queued: int = 200_000,
        max_cameras: int = 1_000,
        key_cameras: int = 100,
    ) -> None:
        self.client = client
        self.withdrawn_about = True
        """Whether messages of cancelled jobs may be under way, as of the last `settle`; at first unknown."""
        self.installation = ""
        """Id of the installation whose Redis alone accepts jobs; empty for any."""
        self._retention = int(retention_hours * 3600)
        self._max_queued = max_queued
        self._max_cameras = max_cameras
        self._key_cameras = key_cameras
        self._accept = client.register_script(script("accept"))
        self._settle = client.register_script(script("settle"))
        self._begin = client.register_script(script("begin"))
        self._forgive = client.register_script(script("forgive"))
        self._duplicate = client.register_script(script("duplicate"))

    def accept(
        self,
        jobs: Sequence[NewJob],
        lane: str,
        queue: str,
        messages: Sequence[str],
        idempotency: Idempotency | None = None,
        *,
        limit: RateLimit | None = None,
    ) -> Accepted:
        """Accept one submission, as `accept_many` does; raise what refuses it."""
        (outcome,) = self.accept_many([Submission(jobs, idempotency, limit)], lane, queue, messages)
        if not isinstance(outcome, Accepted):
            raise outcome
        return outcome

    def accept_many(
        self, submissions: Sequence[Submission], lane: str, queue: str, messages: Sequence[str]
    ) -> list[Accepted | Refusal]:
        """Record the jobs of each submission as queued, all or nothing of it, and enqueue the messages.

        All is one atomic step. Where one is refused and another not, messages name jobs that have no record.

        Args:
            submissions: at least one.
            lane: one of `core.lanes.LANES`.
            queue: that lane's list in Redis, which the messages are pushed to.
            messages: from `core.messages`, together naming every job.

        Returns:
            What became of each; where the same idempotency key was accepted before, nothing was
            recorded, enqueued or taken from the limit. Or why nothing of it was accepted:

            - `IdempotencyConflictError`: the key was used with other bytes.
            - `QueueFullError`: as many jobs wait as may when one of `lane` comes.
            - `RateLimitError`: nothing is left of the limit.
            - `TooManyCamerasError`: a job's camera is new, and there are as many as may be, or the owner has
              brought as many as one may.

        Raises:
            RedisFullError: Redis has no memory; nothing was accepted.
            DataLostError: Redis is not that of the installation (any more); nothing was accepted.
        """
        keys = [PENDING[lane], PENDING[_other(lane)], _LEDGERS, _CAMERAS, _DRAIN, _EXPIRING, queue]
        arguments: list[str | int] = [
            PREFIX,
            self._retention,
            room(lane, self._max_queued),
            self._max_cameras,
            self._key_cameras,
            self.installation,
            len(submissions),
        ]
        for one in submissions:
            known = ""
            if one.idempotency:
                keys.append(_idempotency_key(one.idempotency))
                known = " ".join([one.idempotency.digest, *(job.id for job in one.jobs)])
            rate = f"{one.limit.name} {one.limit.rate} {one.limit.burst}" if one.limit else ""
            arguments += [known, rate, one.owner, len(one.jobs)]
            for job in one.jobs:
                arguments += [job.id, hour_of(accepted_ms(job.id)), job.camera, job.format, job.size]
                arguments += ["" if ms is None else ms for ms in (job.captured_ms, job.expires_ms)]
                arguments.append("" if job.shard is None else job.shard.suffix)
        with translated():
            answers = cast(list[str], self._accept(keys, [*arguments, *messages]))
        if answers == ["lost"]:
            raise DataLostError(
                "Redis has lost its data, or is another one than before; nothing was accepted."
            )
        return [self._outcome(one, lane, answer) for one, answer in zip(submissions, answers, strict=True)]

    def _outcome(self, submission: Submission, lane: str, answer: str) -> Accepted | Refusal:
        """Read an answer of `accept.lua`."""
        jobs = submission.jobs
        word, _, rest = answer.partition(" ")
        if word == "known" and submission.idempotency:
            try:
                return Accepted(_known_ids(rest, submission.idempotency))
            except IdempotencyConflictError as error:
                return error
        if word == "cameras":
            return TooManyCamerasError(self._key_cameras if rest == "owner" else self._max_cameras, rest)
        if word == "limited":
            return RateLimitError(float(rest) / 1000)
        now, ahead, others, *measure = map(float, rest.split(" "))
        of_lane, allowance = measure[_MEASURES:][:_OF_LANE], measure[_MEASURES + _OF_LANE :]
        pending = {lane: int(ahead), _other(lane): int(others)}
        drain = Drain.measured(pending, now, measure[:_MEASURES], {lane: of_lane})
        if word == "full":
            return self._full(drain, lane, len(jobs))
        left, whole_in = (int(allowance[0]), allowance[1] / 1000) if allowance else (None, None)
        places = [drain.place(lane, int(ahead) + number) for number in range(len(jobs))]
        return Accepted([job.id for job in jobs], places, left, whole_in)

    def admit(self, images: int, lane: str, idempotency: Idempotency, camera: str) -> list[str] | None:
        """Look before an upload's images are stored: is it known, and is there room for it?

        Returns:
            The ids accepted under this key, which are counted as duplicates of this hour, or None.

        Raises:
            IdempotencyConflictError: the key was used with other bytes.
            QueueFullError: as many jobs wait as may.
        """
        with translated(), self.client.pipeline(transaction=False) as pipe:
            pipe.get(_idempotency_key(idempotency))
            _ask_drain(pipe)
            value, *answers = pipe.execute()
        if value is None:
            drain = _drain(answers)
            if drain.total + images > room(lane, self._max_queued):
                raise self._full(drain, lane, images)
            return None
        ids = _known_ids(cast(str, value), idempotency)
        hour = hour_of(time.time_ns() // 1_000_000)
        with translated():
            self._duplicate([_LEDGERS, _CAMERAS], [PREFIX, hour, camera, len(ids), secrets.token_hex(8)])
        return ids

    def _full(self, drain: Drain, lane: str, images: int) -> QueueFullError:
        """Return the error that says when there will be room, and some more for others who were refused."""
        most = room(lane, self._max_queued)
        over = drain.total + images - most
        seconds = drain.seconds_for(over + self._max_queued // _ROOM_SHARE)
        wait = UNKNOWN_WAIT if seconds is None else max(1.0, min(LONGEST_WAIT, seconds))
        return QueueFullError(
            f"The queue is full: {drain.total:,} images wait, and {lane} uploads are taken up to {most:,}. "
            f"Nothing of this call was accepted; send it again in {wait:.0f} s.",
            wait,
        )

    def settle(self, outcomes: Sequence[Outcome], model: str) -> list[JobState | None]:
        """Give each job its terminal state, unless it has one: the first wins.

        Args:
            outcomes: one a job.
            model: id of the model that classified.

        Returns:
            The state of each as it now stands; None where the record is gone. A job that was classified when
            it was too old already is `expired`.
        """
        return self._settle_all(outcomes, model)

    def cancel(self, job_id: str, owner: str = "") -> JobState | None:
        """Settle a job `cancelled` unless it has settled; return its state as it now stands, None if unknown.

        Whoever meets its message afterwards is told: see `withdrawn`.

        Args:
            job_id: the job's.
            owner: id of the API key that must have sent it, else it is unknown; empty for any.
        """
        return self._settle_all([Outcome(job_id, JobState.CANCELLED)], "", cancels=True, owner=owner)[0]

    def withdrawn(self, job_ids: Sequence[str]) -> set[str]:
        """Return which of the jobs were cancelled while their messages were under way.

        Settling such a job `cancelled` once more says that its message has been met.
        """
        if not self.withdrawn_about or not job_ids:
            return set()
        with translated():
            found = self.client.zmscore(_WITHDRAWN, list(job_ids))
        return {job_id for job_id, since in zip(job_ids, found, strict=True) if since is not None}

    def overdue(self, limit: int) -> list[str]:
        """Return ids of jobs that have become too old and have not settled, the oldest first."""
        now = self.now_ms()
        with translated():
            return cast(
                list[str],
                self.client.zrange(_EXPIRING, "-inf", f"({now}", byscore=True, offset=0, num=limit),
            )

    def _settle_all(
        self, outcomes: Sequence[Outcome], model: str, *, cancels: bool = False, owner: str = ""
    ) -> list[JobState | None]:
        arguments: list[str | int] = [
            PREFIX,
            SETTLED_CHANNEL,
            self._retention,
            model,
            int(cancels),
            TOO_OLD,
            owner,
        ]
        for outcome in outcomes:
            arguments += [outcome.job_id, hour_of(accepted_ms(outcome.job_id)), outcome.state.value]
            arguments += _prediction_fields(outcome.prediction)
            arguments.append(outcome.error or "")
        with translated():
            about, *states = self._settle([_DRAIN, _WITHDRAWN, _EXPIRING, *PENDING.values()], arguments)
        self.withdrawn_about = bool(about)
        return [JobState(state) if state else None for state in states]

    def begin(self, job_id: str) -> JobState | int | None:
        """Count one more start of a job that was delivered before.

        Returns:
            Its state if that is terminal; None if its record is gone; else how often it has
            been started after the first time, this one included.
        """
        with translated():
            answer = self._begin([_job_key(job_id)], [secrets.token_hex(4)])
        if isinstance(answer, int):
            return answer
        return JobState(answer) if answer else None

    def forgive(self, job_ids: Iterable[str]) -> None:
        """Take back one `begin` of each: the job was put back through no fault of its own."""
        keys = [_job_key(job_id) for job_id in job_ids]
        if keys:
            with translated():
                self._forgive(keys, [secrets.token_hex(4)])

    def read(self, job_id: str) -> Job | None:
        """Return the job, or None: never accepted, or past its retention."""
        return self.read_many([job_id])[0]

    def read_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return the jobs in the order asked for, None for each unknown."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(_job_key(job_id))
            records = pipe.execute()
        return [
            _job(job_id, record) if record else None for job_id, record in zip(job_ids, records, strict=True)
        ]

    def pending(self) -> int:
        """Return how many accepted jobs have not settled."""
        return self.drain().total

    def drain(self) -> Drain:
        """Return how many jobs wait, and how fast they are worked off."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            _ask_drain(pipe)
            return _drain(pipe.execute())

    def places(self, job_ids: Sequence[str]) -> list[Place | None]:
        """Return each job's place in the queue, None if it has settled."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                for key in PENDING.values():
                    pipe.zrank(key, job_id)
            _ask_drain(pipe)
            answers = pipe.execute()
        at = len(LANES) * len(job_ids)
        drain, ranks = _drain(answers[at:]), iter(answers[:at])
        return [_place(drain, [next(ranks) for _ in LANES]) for _ in job_ids]

    def newest_ms(self, lane: str) -> int | None:
        """Return when the latest of the jobs not settled was accepted, as `accepted_at`; None without any."""
        with translated():
            found = self.client.zrange(PENDING[lane], 0, 0, desc=True, withscores=True)
        return int(found[0][1]) if found else None

    def accepted_at(self, lane: str, job_id: str) -> int | None:
        """Return when a job not yet settled was accepted, ms by Redis' clock; None once it has settled."""
        with translated():
            score = self.client.zscore(PENDING[lane], job_id)
        return None if score is None else int(score)

    def pending_before(self, lane: str, milliseconds: int, limit: int) -> list[str]:
        """Return ids of jobs not settled that were accepted before that time, oldest first."""
        with translated():
            return cast(
                list[str],
                self.client.zrange(
                    PENDING[lane],
                    "-inf",
                    f"({milliseconds}",
                    byscore=True,
                    offset=0,
                    num=limit,
                ),
            )

    def now_ms(self) -> int:
        """Return Redis' clock, milliseconds since 1970."""
        with translated():
            seconds, microseconds = self.client.time()
        return seconds * 1000 + microseconds // 1000

    def ping(self) -> None:
        """Return if Redis answers and can write."""
        with translated():
            self.client.set(PREFIX + "ping", "1", ex=60)

    def worker_seen(self, name: str, done: Mapping[str, float] = _NOTHING) -> None:
        """Record that this worker is alive and what it has done, and forget those long gone."""
        now = self.now_ms() / 1000
        report: dict[Any, Any] = {**done, "at": now}
        with translated(), self.client.pipeline() as pipe:  # a transaction, which `core.redis.oom` lets pass
            pipe.zadd(_WORKERS, {name: now})
            pipe.zremrangebyscore(_WORKERS, "-inf", now - 10 * WORKER_TTL)
            pipe.hset(_worker_key(name), mapping=report)
            pipe.expire(_worker_key(name), int(WORKER_TTL))
            pipe.execute()

    def worker_gone(self, name: str) -> None:
        """Record that this worker has stopped."""
        with translated():
            self.client.zrem(_WORKERS, name)
            self.client.delete(_worker_key(name))

    def workers(self) -> list[str]:
        """Return the names of the workers seen lately."""
        with translated():
            names = self.client.zrangebyscore(_WORKERS, self.now_ms() / 1000 - WORKER_TTL, "+inf")
        return cast(list[str], names)

    def unattended(self, seconds: float) -> bool:
        """Return whether a job has waited so long, and no worker was seen for as long."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(_WORKERS, 0, 0, desc=True, withscores=True)
            for key in PENDING.values():
                pipe.zrange(key, 0, 0, withscores=True)
            (now, _), seen, *oldest = pipe.execute()
        return not any(at > now - seconds for _, at in seen) and any(
            accepted < (now - seconds) * 1000 for first in oldest for _, accepted in first
        )

    def worker_reports(self) -> dict[str, dict[str, float]]:
        """Return what each worker seen lately has done, and `at`, when it said so (Redis' clock, seconds)."""
        names = self.workers()
        with translated(), self.client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(_worker_key(name))
            reports = pipe.execute()
        return {
            name: {field: float(value) for field, value in report.items()}
            for name, report in zip(names, reports, strict=True)
            if report
        }


def _other(lane: str) -> str:
    return next(one for one in LANES if one != lane)


def script(name: str) -> str:
    """Return the text of a Lua script."""
    return (files("core.redis") / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def _job_key(job_id: str) -> str:
    return f"{PREFIX}job:{job_id}"


def _worker_key(name: str) -> str:
    return f"{PREFIX}worker:{name}"


def _idempotency_key(idempotency: Idempotency) -> str:
    return f"{PREFIX}idempotency:{idempotency.owner}:{idempotency.key}"


def hour_of(milliseconds: int) -> str:
    """Return the hour, UTC, yyyymmddhh."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y%m%d%H}"


def _known_ids(value: str, idempotency: Idempotency) -> list[str]:
    digest, *ids = value.split(" ")
    if digest != idempotency.digest:
        raise IdempotencyConflictError(
            f"The idempotency key {idempotency.key!r} was used with other bytes, another media type or "
            "another camera; use a new key for a new image."
        )
    return ids


def _prediction_fields(prediction: Prediction | None) -> list[str | int]:
    if prediction is None:
        return ["", "", ""]
    return [prediction.label, f"{prediction.probability:.6f}", int(prediction.review)]


def _ask_drain(pipe: Any) -> None:
    """Ask for what `_drain` reads."""
    pipe.time()
    for key in PENDING.values():
        pipe.zcard(key)
    pipe.hmget(_DRAIN, [*_DRAIN_FIELDS, *(f"{lane}:{name}" for lane in LANES for name in ("jobs", "ms"))])


def _drain(answers: Sequence[Any]) -> Drain:
    (seconds, microseconds), *counts, measure = answers
    now = seconds * 1000 + microseconds // 1000
    numbers = [float(value or 0) for value in measure]
    of_lanes = {lane: numbers[_MEASURES + _OF_LANE * at :][:_OF_LANE] for at, lane in enumerate(LANES)}
    return Drain.measured(dict(zip(LANES, counts, strict=True)), now, numbers[:_MEASURES], of_lanes)


def _place(drain: Drain, ranks: Sequence[int | None]) -> Place | None:
    """Return the place of a job with these ranks in the lanes, None if it is in no lane."""
    found = ((lane, rank) for lane, rank in zip(LANES, ranks, strict=True) if rank is not None)
    return next((drain.place(lane, rank) for lane, rank in found), None)


def _job(job_id: str, record: dict[str, Any]) -> Job:
    label = record.get("label")
    captured, expires, settled = (record.get(name) for name in ("captured", "expires", "settled"))
    return Job(
        id=job_id,
        state=JobState(record["state"]),
        camera=record["camera"],
        format=record["format"],
        size=int(record["size"]),
        shard=Shard.of(job_id, record["shard"]) if "shard" in record else None,
        captured_ms=int(captured) if captured else None,
        expires_ms=int(expires) if expires else None,
        settled_ms=int(settled) if settled else None,
        prediction=Prediction(label, float(record["probability"]), record["review"] == "1")
        if label
        else None,
        model=record.get("model"),
        error=record.get("error"),
    )
