"""Watchdogs of one worker: for its event loop and for its progress."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Final

from celery.utils.log import get_logger

from worker.batching import Batcher

logger = get_logger(__name__)

LOOP_TIMEOUT: Final = 45
"""Seconds without a beat after which the process exits. Calls to a hanging Redis block the loop for less."""

PROGRESS_TIMEOUT: Final = 20.0
"""Seconds without progress, while jobs wait, after which a worker counts as stuck."""


def _exit() -> None:
    os._exit(1)  # A clean exit would wait for the event loop.


class LoopWatchdog:
    """Thread that ends a worker whose event loop is blocked: it counts seconds without a beat.

    It counts its own seconds, so a process that was suspended as a whole goes on when it is resumed.

    Args:
        on_timeout: called once if the loop is blocked.
        timeout: seconds.
    """

    def __init__(self, on_timeout: Callable[[], None] = _exit, timeout: int = LOOP_TIMEOUT) -> None:
        self._on_timeout = on_timeout
        self._timeout = timeout
        self._beats = 0
        self._stopped = False

    def beat(self) -> None:
        """Signal that the event loop runs; called by the loop itself."""
        self._beats += 1

    def stop(self) -> None:
        """Stop watching: the loop stops while the last batch runs."""
        self._stopped = True

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        seen, blocked = self._beats, 0
        while blocked < self._timeout:
            time.sleep(1.0)
            if self._stopped:
                return
            blocked = blocked + 1 if self._beats == seen else 0
            seen = self._beats
        logger.error("The worker's event loop has been blocked for %d s: the worker exits", blocked)
        self._on_timeout()


class ProgressWatchdog:
    """Watches one worker's progress, across its connections.

    A worker without jobs is not stuck, nor is one that runs a batch, waits for storage, reconnects or stops.

    Args:
        backlog: returns the number of messages in the queues.
        clock: returns seconds.
    """

    def __init__(self, backlog: Callable[[], int], clock: Callable[[], float] = time.monotonic) -> None:
        self._backlog = backlog
        self._clock = clock
        self._last: tuple[Batcher | None, int] = (None, 0)
        self._since = clock()

    def stuck(self, batcher: Batcher | None) -> bool:
        """Return whether the worker has made no progress for `PROGRESS_TIMEOUT` although it could."""
        now = (batcher, batcher.progress if batcher else 0)
        if now != self._last or batcher is None or batcher.is_busy or not self._backlog():
            self._last = now
            self._since = self._clock()
            return False
        return self._clock() - self._since >= PROGRESS_TIMEOUT
