"""Retries of calls, within a time limit."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_FIRST_PAUSE: Final = 0.25  # seconds
_LONGEST_PAUSE: Final = 8.0


@dataclass(frozen=True)
class Retry:
    """Time limits of retries, in seconds. 0 means a single try.

    Attributes:
        seconds: for a server that is unreachable or unavailable.
        busy_seconds: for a server that is only busy (429): images of other clients come first.
    """

    seconds: float = 120.0
    busy_seconds: float = 900.0

    def limit(self, *, busy: bool) -> float:
        """Return the seconds for retries at an unavailable server, or a busy one."""
        return max(self.seconds, self.busy_seconds) if busy else self.seconds


class StallClock:
    """Time since an image was last accepted or settled, or since the clock was made."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()

    def restart(self) -> None:
        """Measure from now on."""
        self._began = self._clock()

    @property
    def seconds(self) -> float:
        """Seconds on the clock."""
        return self._clock() - self._began


class Attempt:
    """The tries of one call.

    Args:
        retry: the time limits.
        stall: of a run of many calls; while its images make progress, the time does not count.
        clock: seconds.
    """

    def __init__(
        self, retry: Retry, stall: StallClock | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._retry = retry
        self._own = StallClock(clock)
        self._stall = stall or self._own
        self._tries = 0

    def pause(self, retry_after: float | None = None, *, busy: bool = False) -> float | None:
        """Return the seconds to wait before the next try, or None to give up.

        Args:
            retry_after: minimum seconds, from the server.
            busy: whether the server only has too much to do.
        """
        limit, asked = self._retry.limit(busy=busy), retry_after or 0.0
        left = limit - min(self._own.seconds, self._stall.seconds)
        if left <= 0 or asked > limit:
            return None
        doubled = min(_LONGEST_PAUSE, math.ldexp(_FIRST_PAUSE, self._tries))
        self._tries += 1
        # Jitter, so that clients do not retry in step.
        pause = min(left, doubled * random.uniform(0.75, 1.25))  # noqa: S311
        return max(pause, asked * random.uniform(1.0, 1.25))  # noqa: S311
