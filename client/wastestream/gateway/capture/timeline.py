"""Times of frames, from time stamps that may be missing, jump, stand still or run at a wrong speed.

`position` counts the seconds of the stream, for sampling, and never goes back. The time of capture is the
camera's own, from RTCP sender reports, where there is one that can be true. Otherwise it follows from the
arrival: frames are late by a changing delay, never early, so the least delay in a while is taken for all.
Frames that come in a burst after a stall then have the times at which they were captured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

_MAX_STEP: Final = 10.0
"""Seconds by which a time stamp may advance more than the clock did, before that is a jump."""

_WINDOW: Final = 10.0
"""Seconds in which the least delay is looked for; the window before counts too."""

_MAX_DRIFT: Final = 0.5
"""Seconds by which the least delay may change from window to window; more, twice, means a wrong speed."""

_MAX_SKEW: Final = 5.0
"""Seconds between the camera's time and that of arrival beyond which the camera's clock is wrong."""

_BURST: Final = 5.0
"""Seconds after the first frame in which servers may send kept frames, faster than time passes."""

_STALL: Final = 0.5
"""Seconds without a frame after which those of a stream without time stamps may come late, in a burst."""

_FIRST_GAP: Final = 0.04
"""Seconds between frames, while that is not known."""

_SMOOTHING: Final = 0.05

_IDLE: Final = 1.0
"""Seconds without a frame after which the first one is no kept one."""


@dataclass(frozen=True)
class Place:
    """A frame's place in time.

    Attributes:
        position: seconds of the stream.
        captured_at: seconds since 1970.
        fresh: False for frames that were kept back on their way, and do not say when they were captured.
    """

    position: float
    captured_at: float
    fresh: bool = True


class Timeline:
    """Places the frames of one live stream.

    Args:
        opened: when the stream was opened, seconds since 1970.
    """

    def __init__(self, opened: float) -> None:
        self._opened = opened
        self._first: float | None = None
        self._fresh = False
        self._position = 0.0
        self._pts: float | None = None
        self._arrival: float | None = None
        self._gap = _FIRST_GAP
        self._stalled = False
        self._delays = _LeastDelay()
        self._drifts = 0
        self.camera_skew = 0.0
        """Seconds that the camera's clock is ahead of this machine's, if it is not believed; otherwise 0."""

    def place(self, pts: float | None, reported: float | None, arrival: float) -> Place:
        """Return the place of the next frame.

        Args:
            pts: its time stamp, seconds; None if it has none.
            reported: time of capture by the camera's clock, seconds since 1970, if it says so.
            arrival: time of arrival, seconds since 1970.
        """
        step = self._step(pts, arrival)
        self._fresh = self._is_fresh(step, arrival, timed=pts is not None)
        self._position += step
        self._pts, self._arrival = pts, arrival
        delay = self._delays.least(self._position, arrival)
        if abs(self._delays.drift) > _MAX_DRIFT:
            self._drifts += 1
            self._delays.drift = 0.0
        captured_at = self._position + delay
        if reported is None:
            return Place(self._position, captured_at, self._fresh)
        skew = reported - captured_at
        self.camera_skew = skew if abs(skew) > _MAX_SKEW else 0.0
        return Place(self._position, captured_at if self.camera_skew else reported, self._fresh)

    def _is_fresh(self, step: float, arrival: float, *, timed: bool) -> bool:
        """Return whether the frame comes as it is captured, or has a time stamp that says when that was."""
        if self._first is None or self._arrival is None:
            self._first = arrival
            return arrival - self._opened > _IDLE
        passed = arrival - self._arrival
        if timed:
            return self._fresh or passed >= step / 2 or arrival - self._first > _BURST
        stalled, self._stalled = self._stalled, passed > max(_STALL, 3 * self._gap)
        if self._stalled:
            self._first = arrival
            if stalled:  # twice, without a burst between: the stream is slow
                self._gap = passed
            return stalled
        if not self._fresh:
            return passed >= self._gap / 2 or arrival - self._first > _BURST
        self._gap += _SMOOTHING * (passed - self._gap)
        return True

    def _step(self, pts: float | None, arrival: float) -> float:
        """Return the seconds since the frame before."""
        if self._arrival is None:
            return 0.0
        passed = max(0.0, arrival - self._arrival)
        if pts is None or self._pts is None or self._drifts > 1:
            return passed
        step = pts - self._pts
        return step if 0 < step <= passed + _MAX_STEP else passed


class _LeastDelay:
    """The least delay between position and arrival, in the current window and the one before."""

    def __init__(self) -> None:
        self._ends = -math.inf
        self._current = math.inf
        self._before = math.inf
        self.drift = 0.0

    def least(self, position: float, arrival: float) -> float:
        delay = arrival - position
        if arrival >= self._ends:
            if math.isfinite(self._before):
                self.drift = self._current - self._before
            self._before, self._current, self._ends = self._current, math.inf, arrival + _WINDOW
        self._current = min(self._current, delay)
        return min(self._current, self._before)
