"""Choice of the frames that are sampled, by the stream's own clock."""

from __future__ import annotations

from typing import Final

_SMOOTHING: Final = 0.1


class Sampler:
    """Chooses frames at a rate, evenly: each is the one nearest to its place in time.

    Args:
        fps: frames a second; 0 chooses none.
    """

    def __init__(self, fps: float) -> None:
        self._interval = 1 / fps if fps else None
        self._next: float | None = None
        self._last: float | None = None
        self._gap = 0.0

    def wants(self, position: float) -> bool:
        """Return whether to sample the frame at a position of the stream, seconds, that never goes back."""
        if self._interval is None:
            return False
        if self._last is not None:
            self._gap += _SMOOTHING * (position - self._last - self._gap)
        self._last = position
        due = position if self._next is None else self._next
        if position + min(self._gap, self._interval) / 2 < due:
            return False
        # A grid keeps the rate exact; after a pause it begins anew, so that nothing is caught up.
        self._next = due + self._interval
        if self._next <= position:
            self._next = position + self._interval
        return True
