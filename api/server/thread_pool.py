"""Thread pools that run requests. Each kind of request has its own, so none can exhaust another's threads."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

from api.server.limits import WAIT_TIMEOUT

Work = Callable[[], None]
"""The function that a thread runs; it must not raise."""


class _Waiting(NamedTuple):
    work: Work
    reject: Work
    since: float


class ThreadPool:
    """Threads for one kind of request. All methods are for the event loop.

    Args:
        name: prefix of the threads' names.
        threads: how many.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._threads: Final = threads
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._running = 0
        self._queue: deque[_Waiting] = deque()

    @property
    def has_free_thread(self) -> bool:
        """Whether a thread is free."""
        return self._running < self._threads

    def submit(self, work: Work, reject: Work) -> None:
        """Run `work` in a thread; call `reject` instead if no thread becomes free within `WAIT_TIMEOUT`."""
        if self.has_free_thread:
            self._start(work)
        else:
            self._queue.append(_Waiting(work, reject, time.monotonic()))

    def release(self) -> None:
        """Free a thread whose work is done; the work itself has this called."""
        self._running -= 1
        if self._queue:
            self._start(self._queue.popleft().work)

    def reject_overdue(self, now: float) -> None:
        """Reject work that has waited too long."""
        while self._queue and now - self._queue[0].since > WAIT_TIMEOUT:
            self._queue.popleft().reject()

    def close(self) -> None:
        """Start no more work."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: Work) -> None:
        self._running += 1
        self._executor.submit(work)
