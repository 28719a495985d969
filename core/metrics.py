"""Counters and histograms of a process, kept in memory until `core.redis.metrics` adds them to the system's.

A process that is killed takes nothing along but what it counted since its last report, and leaves nothing
behind: Redis has the sums of all processes, living and dead, and there is no file of one of them.
"""

from __future__ import annotations

import os
import threading
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Final

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the buckets of a call or a batch, in seconds."""

_WAIT: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
_SHORT: Final = (0.001, 0.0025, *SECONDS)
_SIZES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)

SUM: Final = "sum"
"""Last part of the key of a histogram's sum; that of a bucket is its number."""

MICRO: Final = 1_000_000
"""Sums are integers, millionths: Redis adds them without rounding."""

Key = tuple[str, ...]
"""Name of a metric, values of its labels and, in a histogram, the bucket."""


_lock: Final = threading.Lock()


class Metric:
    """Counter or histogram. Thread-safe.

    Args:
        name: in Prometheus.
        text: its help.
        labels: names of its labels, whose values must be few.
        values: label values that are shown before they are first counted.
    """

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = (), values: Sequence[str] = ()) -> None:
        self.name: Final = name
        self.text: Final = text
        self.labels: Final = tuple(labels)
        self.values: Final = [()] if not labels else [(value,) for value in values]
        self._parts: tuple[tuple[str, ...], ...] = ((),)
        self._series: dict[tuple[str, ...], list[int]] = {}  # by the values of the labels
        CATALOGUE[name] = self

    def _of(self, labels: tuple[str, ...]) -> list[int]:
        """Return the numbers of a series, one for each of `_parts`. The lock must be held."""
        series = self._series.get(labels)
        if series is None:
            series = self._series[labels] = [0] * len(self._parts)
        return series

    def take(self) -> dict[Key, int]:
        """Return what was counted since the last call. The lock must be held."""
        series, self._series = self._series, {}
        return {
            (self.name, *labels, *part): number
            for labels, numbers in series.items()
            for part, number in zip(self._parts, numbers, strict=True)
            if number
        }

    def merge(self, key: Key, by: int) -> None:
        """Add a number that another process has taken. The lock must be held."""
        end = 1 + len(self.labels)
        self._of(key[1:end])[self._parts.index(key[end:])] += by


CATALOGUE: Final[dict[str, Metric]] = {}
"""All metrics that processes count, by name."""


class Counter(Metric):
    """Number of events."""

    def add(self, *labels: str, by: int = 1) -> None:
        """Count events with these values of the labels."""
        with _lock:
            self._of(labels)[0] += by


class Histogram(Metric):
    """Distribution of a quantity; `buckets` are upper bounds, the last one before infinity."""

    kind = "histogram"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        values: Sequence[str] = (),
        buckets: tuple[float, ...] = SECONDS,
    ) -> None:
        super().__init__(name, text, labels, values)
        self.buckets: Final = buckets
        self._parts = (*((str(number),) for number in range(len(buckets) + 1)), (SUM,))

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        bucket, micro = bisect_left(self.buckets, value), int(value * MICRO)
        with _lock:
            numbers = self._of(labels)
            numbers[bucket] += 1
            numbers[-1] += micro


class Timer:
    """Observes the seconds of a block that ends without an error; a generator would cost twice as much."""

    __slots__ = ("_began", "_histogram", "_labels")

    def __init__(self, histogram: Histogram, *labels: str) -> None:
        self._histogram = histogram
        self._labels = labels

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._histogram.observe(time.perf_counter() - self._began, *self._labels)


def take() -> dict[Key, int]:
    """Return what this process has counted since the last call."""
    counts: dict[Key, int] = {}
    with _lock:
        for metric in CATALOGUE.values():
            counts.update(metric.take())
    return counts


def merge(counts: Mapping[Key, int]) -> None:
    """Add what another process has taken, such as a worker's child."""
    with _lock:
        for key, by in counts.items():
            CATALOGUE[key[0]].merge(key, by)


def _begin_child() -> None:
    """Let a child begin with nothing: its parent reports what it has counted itself."""
    for metric in CATALOGUE.values():
        metric.take()
    _lock.release()


os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_begin_child)


HTTP_REQUESTS: Final = Counter(
    "wastestream_http_requests_total", "Requests answered by the API.", ("method", "route", "status")
)
HTTP_SECONDS: Final = Histogram(
    "wastestream_http_request_seconds",
    "Seconds from a request's header to its response, without requests that wait for jobs.",
    ("method", "route"),
)
UPLOADS: Final = Counter(
    "wastestream_uploads_total",
    "Images sent, by outcome: accepted, known (sent before), or the type of the problem.",
    ("lane", "outcome"),
)
STORAGE_SECONDS: Final = Histogram(
    "wastestream_storage_seconds", "Seconds of a call of storage.", ("operation",), ("get", "put"), _SHORT
)
STORAGE_ERRORS: Final = Counter("wastestream_storage_errors_total", "Calls of storage that failed.")
REDIS_SECONDS: Final = Histogram(
    "wastestream_redis_seconds",
    "Seconds of a call of Redis that accepts or settles jobs.",
    ("operation",),
    ("accept", "settle"),
    _SHORT,
)
REDIS_ERRORS: Final = Counter("wastestream_redis_errors_total", "Calls of Redis that failed.")
QUEUE_WAIT: Final = Histogram(
    "wastestream_queue_wait_seconds",
    "Seconds from a job's acceptance to the start of its batch.",
    ("lane",),
    buckets=_WAIT,
)
BATCH_SECONDS: Final = Histogram("wastestream_batch_seconds", "Seconds from a batch's start to its results.")
BATCH_IMAGES: Final = Histogram("wastestream_batch_images", "Images of a batch.", buckets=_SIZES)
STAGE_SECONDS: Final = Histogram(
    "wastestream_stage_seconds",
    "Seconds of each stage of a batch.",
    ("stage",),
    ("fetch", "decode", "model", "settle"),
    _SHORT,
)
REDELIVERED: Final = Counter(
    "wastestream_jobs_redelivered_total", "Jobs received again, because a worker ended or its batch crashed."
)
RECOVERED: Final = Counter(
    "wastestream_jobs_recovered_total", "Jobs whose lost messages were sent again by the search for them."
)
PUT_BACK: Final = Counter(
    "wastestream_jobs_put_back_total",
    "Jobs that a worker put back to try them again, by reason.",
    ("reason",),
    ("outage", "unserved", "memory", "crash"),
)
RETENTION_IMAGES: Final = Counter(
    "wastestream_retention_images_removed_total", "Images removed by retention sweeps."
)
RETENTION_ROWS: Final = Counter(
    "wastestream_retention_rows_removed_total", "Rows of the ledger removed by retention sweeps."
)
