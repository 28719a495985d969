"""Whether this worker does its share: it takes no jobs, though some wait and nothing keeps it from them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from worker.batching import Batcher

STUCK_SECONDS: Final = 20.0
"""Seconds without progress, while jobs wait, after which a worker counts as stuck."""


class Liveness:
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
