"""Pending images by the rows' own counters, read again and again at a low cost."""

from __future__ import annotations

import threading
from collections import Counter
from typing import Final, cast

import redis

from core.hours import hour_of
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script

_PIECE: Final = 1000  # rows of one call: a millisecond of Redis
_HOUR_MS: Final = 3_600_000
_SKEW_MS: Final = 60_000  # between the clocks of API processes, by which jobs may be out of order
_DAY: Final = 24  # hours


class RowPending:
    """Sums the `pending` counters of rows by camera. Thread-safe.

    Rows change while jobs of their hour are pending. Older ones stand still; those of the last day are read
    to show a counter that is wrong: one hour of them in each call, all of them in the first.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._script = client.register_script(load_script("row_pending"))
        self._lock = threading.Lock()
        self._old: dict[str, Counter[str]] = {}  # by hour, the one read longest ago first

    def by_camera(self, now_ms: int, oldest_ms: int) -> Counter[str]:
        """Return each camera's pending jobs, of the last day and of all hours since the oldest pending job.

        Args:
            now_ms: milliseconds since 1970.
            oldest_ms: when the oldest pending job was accepted; `now_ms` without one.

        Raises:
            RedisUnavailableError: Redis does not answer.
        """
        live_ms = min(now_ms, oldest_ms) - _SKEW_MS
        hours = {
            hour_of(ms) for ms in range(now_ms - _DAY * _HOUR_MS, live_ms // _HOUR_MS * _HOUR_MS, _HOUR_MS)
        }
        with self._lock:
            return self._read(hours, hour_of(live_ms))

    def _read(self, hours: set[str], live: str) -> Counter[str]:
        self._old = {hour: pending for hour, pending in self._old.items() if hour in hours}
        due = hours - self._old.keys() or set(list(self._old)[:1])
        for hour in due:
            self._old.pop(hour, None)
            self._old[hour] = self._between(hour, hour)
        total = self._between(live, "+inf")
        for pending in self._old.values():
            total.update(pending)  # `+` would drop what is below 0.
        return total

    def _between(self, first: str, last: str) -> Counter[str]:
        pending: Counter[str] = Counter()
        at, read = 0, _PIECE
        while read == _PIECE:
            with translated():
                read, *answers = cast(list[int], self._script([keys.LEDGERS], [first, last, at, _PIECE]))
            for camera, count in zip(answers[::2], answers[1::2], strict=True):
                pending[str(camera)] += count
            at += read
        return pending
