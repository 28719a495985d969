"""Watchdogs of one worker: for its event loop, and for its progress."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from celery.utils.log import get_logger

from worker.batching import Batcher

logger = get_logger(__name__)

STILL_SECONDS: Final = 45
"""Seconds without a beat after which the process ends. The longest that calls to a Redis that hangs hold the
loop up is less."""

STUCK_SECONDS: Final = 20.0
"""Seconds without progress, while jobs wait, after which a worker counts as stuck."""


def _end() -> None:
    os._exit(1)  # Nothing that would wait for the event loop.


class LoopWatchdog:
    """Ends a worker whose event loop stands still: a thread that counts seconds without a beat.

    It counts its own seconds, so a process that was frozen as a whole goes on when it is thawed.

    Args:
        end: called once if the loop stands still.
        most: seconds that it may.
    """

    def __init__(self, end: Callable[[], None] = _end, most: int = STILL_SECONDS) -> None:
        self._end = end
        self._most = most
        self._beats = 0
        self._stopped = False

    def beat(self) -> None:
        """Say that the event loop turns."""
        self._beats += 1

    def stop(self) -> None:
        """Watch no more: the loop rests while the last batch is finished."""
        self._stopped = True

    def start(self) -> None:
        """Watch in a thread of its own, which ends with the process."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        seen, still = self._beats, 0
        while still < self._most:
            time.sleep(1.0)
            if self._stopped:
                return
            still = still + 1 if self._beats == seen else 0
            seen = self._beats
        logger.error("The worker's event loop has stood still for %d s: it ends, to be replaced", still)
        self._end()


class ProgressWatchdog:
    """Watches one worker's progress, across its connections.

    A worker that runs a batch, waits for storage, is stopping or is reconnecting makes no progress and is
    not stuck; neither is one that has nothing to do.

    Args:
        backlog: returns how many messages wait in the queues.
        clock: returns seconds.
    """

    def __init__(self, backlog: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._backlog = backlog
        self._clock = clock
        self._last: tuple[Batcher | None, int] = (None, 0)
        self._since = clock()

    def stuck(self, batcher: Batcher | None) -> bool:
        """Return whether nothing has moved for `STUCK_SECONDS` though it could have."""
        now = (batcher, batcher.progress if batcher else 0)
        if now != self._last or batcher is None or batcher.occupied or not self._backlog():
            self._last = now
            self._since = self._clock()
            return False
        return self._clock() - self._since >= STUCK_SECONDS
