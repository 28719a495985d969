"""Whether an API process can do its work: what those it depends on said when they were last asked."""

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
from core.redis.server import RedisServer
from core.redis.workers import WorkerRegistry
from core.storage import ObjectStore

logger = logging.getLogger(__name__)

FRESH: Final = 1.0
"""Seconds for which answers hold: everyone may ask, and each time costs Redis and storage some calls."""

UNATTENDED: Final = 60.0
"""Seconds without a worker, while jobs wait, after which there is a warning."""

_NO_WORKER: Final = (
    f"Jobs wait, and for {UNATTENDED:.0f} s no worker has reported: start one, or read the workers' logs."
)

INSTALLATION: Final = "installation"

PARTS: Final = ("redis", "storage", INSTALLATION)
"""What can fail; the last is whether Redis and storage hold data that belong together."""


@dataclass(frozen=True, slots=True)
class Report:
    """Which of `PARTS` failed, and why; what is wrong with others; how the ledger stands, if Redis could say.

    `failures` also names the `disk` while it is full. Warnings do not make the API unready: what it accepts
    is kept until there are workers. Nothing is said of a ledger whose data were lost.
    """

    failures: dict[str, str]
    warnings: dict[str, str]
    balance: Balance | None

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


class Readiness:
    """Asks for all threads of the process, one at a time and at most every `FRESH` seconds."""

    def __init__(
        self,
        server: RedisServer,
        jobs: JobStore,
        workers: WorkerRegistry,
        ledger: Ledger,
        objects: ObjectStore,
        *,
        integrity: Integrity,
        disk: Disk,
    ) -> None:
        self._server = server
        self._jobs = jobs
        self._workers = workers
        self._ledger = ledger
        self._objects = objects
        self._integrity = integrity
        self._disk = disk
        self._lock = threading.Lock()
        self._last: tuple[float, Report] | None = None  # when it was asked, on the monotonic clock

    def report(self) -> Report:
        """Return what they say, or said less than `FRESH` seconds ago."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] >= FRESH:
                report = self._ask()
                self._last = time.monotonic(), report
            return self._last[1]

    def _ask(self) -> Report:
        failures: dict[str, str] = {}
        warnings: dict[str, str] = {}
        balance: Balance | None = None
        with _noting(failures, "redis"):
            self._server.check()
            self._jobs.ping()
            balance = self._ledger.balance()
            if self._workers.unattended(UNATTENDED):
                warnings["workers"] = _NO_WORKER
        with _noting(failures, "storage"):
            self._objects.check()
        with _noting(failures, INSTALLATION):
            self._compare(failures)
        with _noting(failures, "disk"):
            self._disk.check()
        return Report(failures, warnings, None if INSTALLATION in failures else balance)

    def _compare(self, failures: Mapping[str, str]) -> None:
        """Compare what Redis and storage hold, or say what is known of it while one of them fails."""
        try:
            if "storage" in failures:
                self._integrity.remember()  # Storage that hangs would hold this answer up once more.
            elif failures:
                self._integrity.check()
            else:
                self._integrity.compare()
        except (RedisUnavailableError, StorageUnavailableError) as error:
            logger.debug("Nothing is known of the installation: %s", error)


@contextmanager
def _noting(failures: dict[str, str], part: str) -> Iterator[None]:
    """Note why the block fails. The log is where the operator finds it: not everyone who asks is told."""
    try:
        yield
    except WastestreamError as error:
        logger.warning("Not ready, for %s fails: %s", part, error)
        failures[part] = str(error)
