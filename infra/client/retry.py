"""Retries of calls, with a deadline without progress."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Final

SECONDS: Final = 120.0
"""Time without progress after which an unreachable server is abandoned."""

SECONDS_WITH_WORKERS: Final = 900.0
"""The same for a server with workers: images of other clients may come first in the queue."""

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 8.0


class Retry:
    """Measures the time since an image was last accepted or settled."""

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._progress = clock()

    def progress(self) -> None:
        """Restart the measurement."""
        self._progress = self._clock()

    @property
    def waited(self) -> float:
        """Seconds since the last progress."""
        return self._clock() - self._progress

    def attempt(self) -> Attempt:
        """Return the attempt of one call, whose time starts with the call."""
        return Attempt(self, self._clock)


class Attempt:
    """The tries of one call."""

    def __init__(self, retry: Retry, clock: Callable[[], float]) -> None:
        self._retry = retry
        self._clock = clock
        self._began = clock()
        self._tries = 0

    def seconds(self, *, busy: bool = False) -> float:
        """Return the seconds for retries at an unreachable server, or one `busy` with other clients."""
        return max(self._retry.seconds, SECONDS_WITH_WORKERS) if busy else self._retry.seconds

    def pause(self, retry_after: float | None = None, *, busy: bool = False) -> float | None:
        """Return the seconds to wait before the next try, or None to give up.

        Args:
            retry_after: minimum seconds, from the server.
            busy: whether the server only has a full queue.
        """
        waited = min(self._retry.waited, self._clock() - self._began)
        left = self.seconds(busy=busy) - waited
        if left <= 0:
            return None
        doubled = min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, self._tries))
        self._tries += 1
        # Jitter, so that clients do not retry in step.
        pause = min(left, doubled * random.uniform(0.75, 1.25))  # noqa: S311
        asked = (retry_after or 0.0) * random.uniform(1.0, 1.25)  # noqa: S311
        return max(pause, asked)
