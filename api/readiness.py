"""Whether an API process can do its work: what those it depends on said when they were last asked."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from core.accounts import Accounts, Balance
from core.disk import Disk
from core.errors import WastestreamError
from core.ledger import JobStore
from core.objects import ObjectStore

logger = logging.getLogger(__name__)

FRESH: Final = 1.0
"""Seconds for which answers hold: everyone may ask, and each time costs Redis a write and storage a read."""

PARTS: Final = ("redis", "storage")


@dataclass(frozen=True, slots=True)
class Report:
    """Which of `PARTS` failed, and why; how the ledger stands, if Redis could say.

    `failures` also names the `disk` while it is full.
    """

    failures: dict[str, str]
    balance: Balance | None

    @property
    def ready(self) -> bool:
        """Whether nothing failed."""
        return not self.failures


class Readiness:
    """Asks for all threads of the process, one at a time and at most every `FRESH` seconds."""

    def __init__(self, jobs: JobStore, accounts: Accounts, objects: ObjectStore, disk: Disk) -> None:
        self._jobs = jobs
        self._accounts = accounts
        self._objects = objects
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
        balance: Balance | None = None
        with _noting(failures, "redis"):
            self._jobs.ping()
            balance = self._accounts.balance()
        with _noting(failures, "storage"):
            self._objects.ping()
        with _noting(failures, "disk"):
            self._disk.check()
        return Report(failures, balance)


@contextmanager
def _noting(failures: dict[str, str], part: str) -> Iterator[None]:
    """Note why the block fails. The log is where the operator finds it: not everyone who asks is told."""
    try:
        yield
    except WastestreamError as error:
        logger.warning("Not ready, for %s fails: %s", part, error)
        failures[part] = str(error)
