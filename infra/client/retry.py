"""Retries of calls, and how long without progress is too long."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Final

SECONDS: Final = 120.0
"""Without progress for this long, a server that cannot be reached is given up."""

SECONDS_WITH_WORKERS: Final = 900.0
"""The same while the server answers and has workers: others' images may be before ours in the queue."""

_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 8.0


class Retry:
    """Counts the seconds since an image was last accepted or settled."""

    def __init__(self, seconds: float = SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds = seconds
        self._clock = clock
        self._progress = clock()

    def progress(self) -> None:
        """Begin to count again."""
        self._progress = self._clock()

    @property
    def waited(self) -> float:
        """Seconds since the last progress."""
        return self._clock() - self._progress

    def attempt(self) -> Attempt:
        """Return the count of one call: it begins no earlier than the call itself."""
        return Attempt(self, self._clock)


class Attempt:
    """One call's tries."""

    def __init__(self, retry: Retry, clock: Callable[[], float]) -> None:
        self._retry = retry
        self._clock = clock
        self._began = clock()
        self._tries = 0

    def seconds(self, *, busy: bool = False) -> float:
        """Return how long to go on trying with a server that is away, or `busy` with others' images."""
        return max(self._retry.seconds, SECONDS_WITH_WORKERS) if busy else self._retry.seconds

    def pause(self, retry_after: float | None = None, *, busy: bool = False) -> float | None:
        """Return how many seconds to wait before the next try, or None to give up.

        Args:
            retry_after: seconds that the server asked for, if it did; never less.
            busy: whether the server is well and has just no room.
        """
        waited = min(self._retry.waited, self._clock() - self._began)
        left = self.seconds(busy=busy) - waited
        if left <= 0:
            return None
        doubled = min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, self._tries))
        self._tries += 1
        # Uneven, so that clients do not come back in step.
        pause = min(left, doubled * random.uniform(0.75, 1.25))  # noqa: S311
        asked = (retry_after or 0.0) * random.uniform(1.0, 1.25)  # noqa: S311
        return max(pause, asked)
