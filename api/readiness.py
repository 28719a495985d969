"""Readiness of an API process: the state of its dependencies."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from api.integrity import Integrity
from core.disk import Disk
from core.errors import RedisUnavailableError, StorageUnavailableError, WastestreamError
from core.redis.job_store import JobStore
from core.redis.ledger import Balance, Ledger
from core.redis.pauses import Pauses
from core.redis.server import RedisServer
from core.redis.workers import WorkerRegistry
from core.storage import ObjectStore
from core.times import timestamp

logger = logging.getLogger(__name__)

MAX_AGE: Final = 1.0
"""Seconds between checks: anyone may ask, and a check costs several calls to Redis and storage."""

NO_WORKER_SECONDS: Final = 60.0
"""Seconds without a worker while jobs wait, before the warning."""

_NO_WORKER: Final = (
    f"Jobs wait, but no worker has reported for {NO_WORKER_SECONDS:.0f} s: start one, or read the logs."
)

_PAUSED: Final = "Workers take no {lane} jobs: paused since {since}; go on with `wastestream resume {lane}`."

INSTALLATION: Final = "installation"

DEPENDENCIES: Final = ("redis", "storage", INSTALLATION)
"""Names of the checks; `installation` checks that the data in Redis and storage belong together."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """Result of a check.

    Attributes:
        failures: reasons by the name in `DEPENDENCIES`, or `disk` while it is full.
        warnings: problems that leave the API ready, such as missing workers: accepted images wait for them.
        paused: the paused lanes; None if Redis is down.
        balance: of the ledger; None if Redis is down, or has lost its data.
    """

    failures: dict[str, str]
    warnings: dict[str, str]
    balance: Balance | None
    paused: tuple[str, ...] | None

    @property
    def ready(self) -> bool:
        """Whether no check failed."""
        return not self.failures


class ReadinessCheck:
    """Checks the dependencies, at most every `MAX_AGE` seconds. Thread-safe."""

    def __init__(
        self,
        server: RedisServer,
        jobs: JobStore,
        workers: WorkerRegistry,
        ledger: Ledger,
        objects: ObjectStore,
        *,
        pauses: Pauses,
        integrity: Integrity,
        disk: Disk,
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._workers = workers
        self._ledger = ledger
        self._pauses = pauses
        self._objects = objects
        self._integrity = integrity
        self._disk = disk
        self._lock = threading.Lock()
        self._last: tuple[float, Readiness] | None = None  # with its time on the monotonic clock

    def run(self) -> Readiness:
        """Return the readiness, at most `MAX_AGE` seconds old."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] >= MAX_AGE:
                readiness = self._check()
                self._last = time.monotonic(), readiness
            return self._last[1]

    def _check(self) -> Readiness:
        failures: dict[str, str] = {}
        warnings: dict[str, str] = {}
        balance: Balance | None = None
        paused: tuple[str, ...] | None = None
        with _record_failure(failures, "redis"):
            self._server.check()
            self._jobs.ping()
            balance = self._ledger.balance()
            if self._workers.unattended(NO_WORKER_SECONDS):
                warnings["workers"] = _NO_WORKER
            lanes = self._pauses.paused()
            paused = tuple(lanes)
            if lanes:
                warnings["paused"] = " ".join(
                    _PAUSED.format(lane=lane, since=timestamp(since)) for lane, since in lanes.items()
                )
        with _record_failure(failures, "storage"):
            self._objects.check()
        with _record_failure(failures, INSTALLATION):
            self._compare(failures)
        with _record_failure(failures, "disk"):
            self._disk.check()
        return Readiness(failures, warnings, None if INSTALLATION in failures else balance, paused)

    def _compare(self, failures: Mapping[str, str]) -> None:
        """Compare the data in Redis and storage; while one of them fails, use the latest result."""
        try:
            if "storage" in failures:
                self._integrity.raise_if_lost()  # Storage that hangs would delay this response again.
            elif failures:
                self._integrity.check()
            else:
                self._integrity.compare()
        except (RedisUnavailableError, StorageUnavailableError) as error:
            logger.debug("The installation is unknown: %s", error)


@contextmanager
def _record_failure(failures: dict[str, str], name: str) -> Iterator[None]:
    """Record and log an error of the block. Public responses do not have the reason."""
    try:
        yield
    except WastestreamError as error:
        logger.warning("Not ready: %s fails: %s", name, error)
        failures[name] = str(error)
