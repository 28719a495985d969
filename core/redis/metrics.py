"""Metrics of the whole system: the sums of what all processes have counted, living and dead."""

from __future__ import annotations

import secrets
import threading
from typing import Final, cast

import redis

from core import metrics
from core.metrics import Key
from core.redis import keys
from core.redis.client import translated
from core.redis.scripts import load_script

REPORT_SECONDS: Final = 2.0
"""Seconds between a process' reports: a process that is killed loses no more than it counted in them."""

_SWEPT: Final = "retention_swept_ms"  # field of `keys.METRICS`
_SEPARATOR: Final = "|"  # in no label


class Reporter:
    """Adds what this process counts to the system's sums. Thread-safe.

    A report that failed may have been counted all the same, so it is sent again unchanged, with its number.

    Args:
        client: a client that passes a Redis without memory (`core.redis.oom`), whose counters matter most.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._count = client.register_script(load_script("count"))
        self._process = secrets.token_hex(8)
        self._lock = threading.Lock()
        self._number = 0
        self._unsent: dict[Key, int] = {}

    def report(self) -> None:
        """Send what was counted since the last report, if anything.

        Raises:
            RedisUnavailableError: the next call sends it.
        """
        with self._lock:
            if not self._unsent:
                self._unsent = metrics.take()
                self._number += 1
            if self._unsent:
                self._send()

    def _send(self) -> None:
        fields = [part for key, by in self._unsent.items() for part in (_SEPARATOR.join(key), by)]
        with translated():
            self._count([keys.METRICS, keys.metrics_report(self._process)], [self._number, *fields])
        self._unsent = {}


class MetricStore:
    """Reads the sums. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def swept(self, now_ms: int) -> None:
        """Record the end of a retention sweep."""
        with translated():
            self._client.hset(keys.METRICS, _SWEPT, now_ms)

    def read(self) -> tuple[dict[Key, int], int | None]:
        """Return the sums, and when the last retention sweep ended (ms since 1970), if one has."""
        with translated():
            sums = cast(dict[str, str], self._client.hgetall(keys.METRICS))
        swept = sums.pop(_SWEPT, None)
        counts = {tuple(name.split(_SEPARATOR)): int(value) for name, value in sums.items()}
        return counts, None if swept is None else int(swept)

    def memory(self) -> tuple[int, int]:
        """Return the bytes that Redis uses, and its limit; 0 for none."""
        with translated():
            memory = self._client.info("memory")
        return int(memory["used_memory"]), int(memory["maxmemory"])
