"""Whether Redis and storage still hold this installation's data; if not, an API process is closed."""

from __future__ import annotations

import copy
import logging
import threading
import time
from typing import Final

from core.errors import DataLostError, RedisUnavailableError, StorageUnavailableError, WastestreamError
from core.installation import Installation, everything_lost
from core.redis.job_store import JobStore

logger = logging.getLogger(__name__)

FRESH: Final = 1.0
"""Seconds after which a request has Redis' mark looked at again; uploads are compared with it anyway."""

STORAGE_FRESH: Final = 10.0
"""The same for storage's, which is read in a thread of its own: no request waits for slow storage."""


class Integrity:
    """What the marks of Redis and storage said when they were last compared. Safe to share between threads.

    Args:
        installation: the marks.
        jobs: told the id, so that nothing is accepted into another Redis.
    """

    def __init__(self, installation: Installation, jobs: JobStore) -> None:
        self._installation = installation
        self._jobs = jobs
        self._verdict: WastestreamError | None = None  # why this process is closed
        self._looked_at = self._storage_looked_at = -STORAGE_FRESH  # on the monotonic clock
        self._lock = threading.Lock()  # held by the one thread that looks

    def check(self, fresh: float = FRESH) -> None:
        """Return if the data are there, by a look at Redis of at most so many seconds ago.

        Raises:
            DataLostError: they are not.
            RedisUnavailableError, StorageUnavailableError: nobody could say so far.
        """
        if time.monotonic() - self._looked_at >= fresh:
            # While another thread looks, what it found before will do, if it has found anything.
            known = bool(self._jobs.installation) or self._verdict is not None
            if self._lock.acquire(blocking=fresh == 0 or not known):
                try:
                    if time.monotonic() - self._looked_at >= fresh:
                        self._look()
                        self._looked_at = time.monotonic()
                finally:
                    self._lock.release()
        if self._verdict is not None:
            # A copy: threads that raised the same would add to each other's traceback.
            raise copy.copy(self._verdict)

    def remember(self) -> None:
        """Return unless the data were missing when they were last looked for; raises `DataLostError`."""
        if isinstance(self._verdict, DataLostError):
            raise copy.copy(self._verdict)

    def compare(self) -> None:
        """Compare both marks now.

        Raises:
            DataLostError, RedisUnavailableError, StorageUnavailableError: as `check`.
        """
        with self._lock:
            self._compare()
            self._looked_at = time.monotonic()
        if self._verdict is not None:
            raise copy.copy(self._verdict)

    def _look(self) -> None:
        """Look at Redis' mark, and let a thread look at storage's now and then; at both while closed."""
        if self._verdict is None and self._jobs.installation:
            try:
                intact = self._installation.in_redis() == self._jobs.installation
            except RedisUnavailableError:
                return  # The request itself will say so.
            if intact:
                self._look_at_storage_later()
                return
        self._compare()

    def _compare(self) -> None:
        known = self._jobs.installation
        verdict: WastestreamError | None
        try:
            mark = self._installation.compare(make=not known)
            verdict = None if mark else everything_lost()
        except DataLostError as error:
            verdict, mark = error, None
        except (RedisUnavailableError, StorageUnavailableError) as error:
            verdict, mark = self._without_answer(error)
        if isinstance(verdict, DataLostError) and not isinstance(self._verdict, DataLostError):
            logger.error("The API is closed. %s", verdict)
        elif verdict is None and isinstance(self._verdict, DataLostError):
            logger.warning("The API is open again: Redis and storage belong together.")
        self._jobs.installation = mark or known
        self._verdict = verdict

    def _without_answer(self, error: WastestreamError) -> tuple[WastestreamError | None, str | None]:
        """Return verdict and id while Redis or storage is down: by Redis alone, or as before."""
        known = self._jobs.installation
        if isinstance(self._verdict, DataLostError):
            return self._verdict, None
        try:
            mark = self._installation.in_redis()
        except RedisUnavailableError:
            return self._verdict if known else error, None
        # With its mark, Redis has its data; without, only storage can tell whether it ever had any.
        return (None, mark) if mark and known in {"", mark} else (error, None)

    def _look_at_storage_later(self) -> None:
        if time.monotonic() - self._storage_looked_at >= STORAGE_FRESH:
            self._storage_looked_at = time.monotonic()
            threading.Thread(target=self._look_at_storage, name="integrity", daemon=True).start()

    def _look_at_storage(self) -> None:
        try:
            if self._installation.compare(make=False) == self._jobs.installation:
                return
        except DataLostError:
            pass
        except WastestreamError as error:
            logger.info("The marks could not be compared: %s", error)
            return
        with self._lock:
            self._compare()  # Again: since then a request may have found that all is well.
