"""Integrity check: an API process closes if Redis or storage has lost the installation's data."""

from __future__ import annotations

import copy
import logging
import threading
import time
from typing import Final

from core.errors import DataLostError, RedisUnavailableError, StorageUnavailableError, WastestreamError
from core.redis.installation import Installation, everything_lost
from core.redis.job_store import JobStore

logger = logging.getLogger(__name__)

REDIS_MAX_AGE: Final = 1.0
"""Seconds between reads of the mark in Redis by requests; every upload compares it anyway."""

STORAGE_MAX_AGE: Final = 10.0
"""Seconds between reads of the mark in storage, by a thread of its own: storage may be slow."""


class Integrity:
    """Result of the last comparison of the marks in Redis and storage. Thread-safe.

    Args:
        installation: the marks.
        jobs: gets the installation's id, so that it accepts no job into another Redis.
    """

    def __init__(self, installation: Installation, jobs: JobStore) -> None:
        self._installation = installation
        self._jobs = jobs
        self._error: WastestreamError | None = None  # why this process is closed
        self._checked_at = self._storage_checked_at = -STORAGE_MAX_AGE  # on the monotonic clock
        self._lock = threading.Lock()  # held by the one thread that checks

    def check(self, max_age: float = REDIS_MAX_AGE) -> None:
        """Check that no data are lost, by a comparison at most `max_age` seconds old.

        Raises:
            DataLostError: data are lost.
            RedisUnavailableError, StorageUnavailableError: no check has succeeded yet.
        """
        if time.monotonic() - self._checked_at >= max_age:
            # While another thread checks, use the previous result, if there is one.
            known = bool(self._jobs.installation) or self._error is not None
            if self._lock.acquire(blocking=max_age == 0 or not known):
                try:
                    if time.monotonic() - self._checked_at >= max_age:
                        self._check()
                        self._checked_at = time.monotonic()
                finally:
                    self._lock.release()
        if self._error is not None:
            # A copy: threads that raise the same object would add to each other's traceback.
            raise copy.copy(self._error)

    def raise_if_lost(self) -> None:
        """Raise `DataLostError` if the last check found data lost."""
        if isinstance(self._error, DataLostError):
            raise copy.copy(self._error)

    def compare(self) -> None:
        """Compare both marks now.

        Raises:
            DataLostError, RedisUnavailableError, StorageUnavailableError: as `check`.
        """
        with self._lock:
            self._compare()
            self._checked_at = time.monotonic()
        if self._error is not None:
            raise copy.copy(self._error)

    def _check(self) -> None:
        """Check the mark in Redis, and start a check of storage if one is due; while closed, compare both."""
        if self._error is None and self._jobs.installation:
            try:
                intact = self._installation.in_redis() == self._jobs.installation
            except RedisUnavailableError:
                return  # The request itself reports that Redis is down.
            if intact:
                self._start_storage_check()
                return
        self._compare()

    def _compare(self) -> None:
        known = self._jobs.installation
        error: WastestreamError | None
        try:
            mark = self._installation.compare(make=not known)
            error = None if mark else everything_lost()
        except DataLostError as lost:
            error, mark = lost, None
        except (RedisUnavailableError, StorageUnavailableError) as outage:
            error, mark = self._during_outage(outage)
        if isinstance(error, DataLostError) and not isinstance(self._error, DataLostError):
            logger.error("The API is closed. %s", error)
        elif error is None and isinstance(self._error, DataLostError):
            logger.warning("The API is open again: Redis and storage belong together.")
        self._jobs.installation = mark or known
        self._error = error

    def _during_outage(self, outage: WastestreamError) -> tuple[WastestreamError | None, str | None]:
        """Return error and id while Redis or storage is down: from Redis alone, or the previous ones."""
        known = self._jobs.installation
        if isinstance(self._error, DataLostError):
            return self._error, None
        try:
            mark = self._installation.in_redis()
        except RedisUnavailableError:
            return self._error if known else outage, None
        # A Redis with the mark has its data; without it, only storage can tell whether it ever had any.
        return (None, mark) if mark and known in {"", mark} else (outage, None)

    def _start_storage_check(self) -> None:
        if time.monotonic() - self._storage_checked_at >= STORAGE_MAX_AGE:
            self._storage_checked_at = time.monotonic()
            threading.Thread(target=self._check_storage, name="integrity", daemon=True).start()

    def _check_storage(self) -> None:
        try:
            if self._installation.compare(make=False) == self._jobs.installation:
                return
        except DataLostError:
            pass
        except WastestreamError as error:
            logger.info("The marks could not be compared: %s", error)
            return
        with self._lock:
            self._compare()  # Again: a request may have found the data in the meantime.
