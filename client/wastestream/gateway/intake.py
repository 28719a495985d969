"""Frames on their way into the spool: those that come while the disk writes are written together."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

from wastestream.gateway.frames import Frame
from wastestream.gateway.spool import Spool

_MAX_WAITING: Final = 64
"""Frames that wait for the disk; who brings another one waits too."""


@dataclass(frozen=True)
class _Arrival:
    frame: Frame
    safe: threading.Event = field(default_factory=threading.Event)


class Intake:
    """Puts frames into the spool, in its own thread."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._arrivals: list[_Arrival] = []
        self._changed = threading.Condition()
        self._closed = False

    def put(self, frame: Frame) -> threading.Event:
        """Take a frame; return what is set when it is safe."""
        arrival = _Arrival(frame)
        with self._changed:
            while len(self._arrivals) >= _MAX_WAITING and not self._closed:
                self._changed.wait()
            self._arrivals.append(arrival)
            self._changed.notify_all()
        return arrival.safe

    def run(self) -> None:
        """Write frames until it is closed and none waits."""
        while group := self._next():
            self._spool.add([one.frame for one in group])
            for one in group:
                one.safe.set()

    def close(self) -> None:
        """Take no further frames."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _next(self) -> list[_Arrival]:
        with self._changed:
            while not self._arrivals and not self._closed:
                self._changed.wait()
            group, self._arrivals = self._arrivals, []
            self._changed.notify_all()
        return group
