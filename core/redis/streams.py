"""Numbers of open event streams, which API processes report."""

from __future__ import annotations

from typing import Final, cast

import redis

from core.redis.client import translated
from core.redis.keys import STREAMS

REPORT_SECONDS: Final = 2.0
"""Interval of a process' reports while it has streams."""

_FORGET_SECONDS: Final = 15.0  # without a report, after which a process counts as gone


class StreamCounts:
    """Keeps the counts. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def report(self, process: str, count: int) -> None:
        """Record the number of a process' streams."""
        now = self._now()
        with translated():
            if count:
                self._client.hset(STREAMS, process, f"{count} {now:.3f}")
            else:
                self._client.hdel(STREAMS, process)

    def total(self) -> int:
        """Return the streams of all processes; forget processes that are gone."""
        now = self._now()
        with translated():
            reports = cast(dict[str, str], self._client.hgetall(STREAMS))
        counts = {process: report.split(" ") for process, report in reports.items()}
        gone = [process for process, (_, at) in counts.items() if float(at) < now - _FORGET_SECONDS]
        if gone:
            with translated():
                self._client.hdel(STREAMS, *gone)
        return sum(int(count) for process, (count, _) in counts.items() if process not in gone)

    def _now(self) -> float:
        with translated():
            seconds, microseconds = self._client.time()
        return seconds + microseconds / 1e6
