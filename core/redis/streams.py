"""Numbers that API processes report: of open event streams, and of waiting requests."""

from __future__ import annotations

from typing import Final, cast

import redis

from core.redis.client import translated

REPORT_SECONDS: Final = 2.0
"""Interval of a process' reports while its number is not 0."""

_FORGET_SECONDS: Final = 15.0  # without a report, after which a process counts as gone


class ProcessCounts:
    """Keeps the numbers of one kind. Every method raises `RedisUnavailableError` while Redis is down.

    Args:
        client: Redis.
        key: the hash of the kind, `core.redis.keys.STREAMS` or `WAITING`.
    """

    def __init__(self, client: redis.Redis, key: str) -> None:
        self._client = client
        self._key = key

    def report(self, process: str, count: int) -> None:
        """Record the number of a process."""
        now = self._now()
        with translated():
            if count:
                self._client.hset(self._key, process, f"{count} {now:.3f}")
            else:
                self._client.hdel(self._key, process)

    def total(self) -> int:
        """Return the sum of all processes; forget processes that are gone."""
        now = self._now()
        with translated():
            reports = cast(dict[str, str], self._client.hgetall(self._key))
        counts = {process: report.split(" ") for process, report in reports.items()}
        gone = [process for process, (_, at) in counts.items() if float(at) < now - _FORGET_SECONDS]
        if gone:
            with translated():
                self._client.hdel(self._key, *gone)
        return sum(int(count) for process, (count, _) in counts.items() if process not in gone)

    def _now(self) -> float:
        with translated():
            seconds, microseconds = self._client.time()
        return seconds + microseconds / 1e6
