"""Times of capture that survive a wrong clock.

The clock of a box beside a conveyor belt may be wrong until NTP has set it, perhaps by years. So a frame has
two times: the clock's, and seconds since the machine was started, which nobody sets. While the machine runs,
the second one and the server's clock give the frame's true time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

MAX_SKEW: Final = 30.0
"""Seconds by which the clocks of machine and server may differ before the server's is believed."""

SET_SINCE: Final = 1_767_225_600.0
"""Times before 2026 come from a clock that was never set."""

_ROUNDING: Final = 0.5
"""Mean seconds that the header `Date`, in whole seconds, is late."""

_BOOT: Final = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


@dataclass(frozen=True)
class Stamp:
    """The time of one event.

    Attributes:
        wall: seconds since 1970, by the machine's clock, or by the camera's.
        boot: id of the machine's start.
        elapsed: seconds since that start.
    """

    wall: float
    boot: str
    elapsed: float

    def age(self) -> float:
        """Return the seconds since then; 0 if nothing is known about them."""
        if self.boot == _BOOT:
            return elapsed() - self.elapsed
        return time.time() - self.wall if self.wall > SET_SINCE else 0.0


def stamp(wall: float | None = None) -> Stamp:
    """Return the stamp of a time of the machine's clock, of now by default."""
    now = time.time()
    return Stamp(now if wall is None else wall, _BOOT, elapsed() - (0.0 if wall is None else now - wall))


def elapsed() -> float:
    """Return the seconds since the machine was started, those of its sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def this_boot() -> str:
    """Return the id of the machine's start."""
    return _BOOT


class ServerClock:
    """The server's clock, as its answers show it."""

    def __init__(self) -> None:
        self._ahead_of_boot: float | None = None

    def observe(self, date: str) -> None:
        """Note the header `Date` of an answer that has just come."""
        try:
            moment = parsedate_to_datetime(date)
        except ValueError:  # none, or nonsense
            return
        self._ahead_of_boot = moment.timestamp() + _ROUNDING - elapsed()

    def skew(self) -> float:
        """Return the seconds that this machine's clock is ahead of the server's; 0 while that is unknown."""
        if self._ahead_of_boot is None:
            return 0.0
        return time.time() - elapsed() - self._ahead_of_boot

    def corrected(self, wall: float) -> float:
        """Return a time of this machine's clock, which was read lately, by the server's if it is wrong."""
        skew = self.skew()
        return wall - skew if abs(skew) > MAX_SKEW else wall

    def captured_at(self, moment: Stamp) -> float:
        """Return the time of an event in seconds since 1970, by the machine's clock unless that is wrong."""
        if self._ahead_of_boot is None or moment.boot != _BOOT or abs(self._wrong_by(moment)) <= MAX_SKEW:
            return moment.wall
        return self._ahead_of_boot + moment.elapsed

    def _wrong_by(self, moment: Stamp) -> float:
        return moment.wall - moment.elapsed - (self._ahead_of_boot or 0.0)
