"""The workers that are alive: their heartbeats, reports and models."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, cast

import redis

from core.lanes import LANES
from core.messages import FORMAT
from core.redis import keys
from core.redis.client import translated
from core.redis.pauses import PAUSES, paused_lanes

WORKER_TTL: Final = 15.0
"""Seconds without a heartbeat after which a worker counts as gone; it sends one every second."""

_FORGET: Final = 10 * WORKER_TTL  # seconds; until then `unattended` knows when the last one was seen
_RUNS: Final = "runs:"
_FORMAT: Final = "format"
_NOTHING: Final[Mapping[str, float]] = {}


class Running(NamedTuple):
    """A worker's model: `engine` is "float", "int8" or "tensorflow", `model` the id in results."""

    engine: str
    model: str


class WorkerRegistry:
    """Records and reads heartbeats. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def seen(self, name: str, report: Mapping[str, float] = _NOTHING) -> frozenset[str]:
        """Record a worker's heartbeat and report, and forget workers long gone; return the paused lanes."""
        now = self._now()
        record: dict[Any, Any] = {**report, "at": now}
        with translated(), self._client.pipeline() as pipe:  # a transaction, which `core.redis.oom` lets pass
            pipe.zadd(keys.WORKERS, {name: now})
            pipe.zremrangebyscore(keys.WORKERS, "-inf", now - _FORGET)
            pipe.hset(keys.worker(name), mapping=record)
            pipe.expire(keys.worker(name), int(WORKER_TTL))
            pipe.hmget(keys.SERVICE_RATE, PAUSES)
            return paused_lanes(pipe.execute()[-1])

    def gone(self, name: str) -> None:
        """Record that a worker has stopped."""
        with translated():
            self._client.zrem(keys.WORKERS, name)
            self._client.delete(keys.worker(name))

    def names(self) -> list[str]:
        """Return the names of the workers that are alive."""
        with translated():
            return cast(list[str], self._client.zrangebyscore(keys.WORKERS, self._now() - WORKER_TTL, "+inf"))

    def reports(self) -> dict[str, dict[str, float]]:
        """Return each living worker's report; `at` in it is the time of its heartbeat (Redis' clock, s)."""
        names = self.names()
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for name in names:
                pipe.hgetall(keys.worker(name))
            records = pipe.execute()
        return {
            name: {field: float(value) for field, value in record.items()}
            for name, record in zip(names, records, strict=True)
            if record
        }

    def outdated(self) -> list[str]:
        """Return the living workers that cannot read the messages of this version."""
        return [name for name, report in self.reports().items() if report.get(_FORMAT, 0) < FORMAT]

    def unattended(self, seconds: float) -> bool:
        """Return whether a job has waited for a number of seconds without any worker alive.

        Jobs of paused lanes need none.
        """
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.zrange(keys.WORKERS, 0, 0, desc=True, withscores=True)
            pipe.hmget(keys.SERVICE_RATE, PAUSES)
            for lane in LANES:
                pipe.zrange(keys.PENDING[lane], 0, 0, withscores=True)
            (now, _), seen, pauses, *oldest = pipe.execute()
        paused = paused_lanes(pauses)
        return not any(at > now - seconds for _, at in seen) and any(
            accepted < (now - seconds) * 1000
            for lane, first in zip(LANES, oldest, strict=True)
            if lane not in paused
            for _, accepted in first
        )

    def _now(self) -> float:
        with translated():
            seconds, microseconds = self._client.time()
        return seconds + microseconds / 1e6


def reported(running: Running) -> dict[str, float]:
    """Return what a worker's report says of its program: the format of messages that it reads, and its model.

    Reports hold numbers only, so a field names the model.
    """
    return {_FORMAT: FORMAT, f"{_RUNS}{running.engine}:{running.model}": 1.0}


def running_models(reports: Mapping[str, Mapping[str, float]]) -> Counter[Running]:
    """Count the workers of each model, given the reports by worker."""
    fields = (field for report in reports.values() for field in report if field.startswith(_RUNS))
    return Counter(Running(*field.removeprefix(_RUNS).split(":", 1)) for field in fields)
