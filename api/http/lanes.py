"""Threads that run requests, so many for each kind: none of them can take the others'."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from api.http.limits import WAIT_SECONDS

Work = Callable[[], None]
"""What a thread does; it must not raise."""


class _Job(NamedTuple):
    work: Work
    refuse: Work
    since: float


class Lane:
    """Threads for one kind of request. All methods are for the event loop.

    Args:
        name: of the threads.
        threads: how many.
        loop: the event loop.
    """

    def __init__(self, name: str, threads: int, loop: asyncio.AbstractEventLoop) -> None:
        self._threads: Final = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._loop = loop
        self._running = 0
        self._waiting: deque[_Job] = deque()

    @property
    def has_room(self) -> bool:
        """Whether a thread is free."""
        return self._running < self._threads

    def run(self, work: Work, refuse: Work) -> None:
        """Have a thread do the work; call `refuse` instead if none is free for `WAIT_SECONDS`."""
        if self.has_room:
            self._begin(work)
        else:
            self._waiting.append(_Job(work, refuse, time.monotonic()))

    def leave(self) -> None:
        """Give the thread of one work back; the work has this called when it is done."""
        self._running -= 1
        if self._waiting:
            self._begin(self._waiting.popleft().work)

    def refuse_late(self, now: float) -> None:
        """Refuse those who have waited too long."""
        while self._waiting and now - self._waiting[0].since > WAIT_SECONDS:
            self._waiting.popleft().refuse()

    def close(self) -> None:
        """Begin nothing more."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _begin(self, work: Work) -> None:
        self._running += 1
        self._executor.submit(work)
