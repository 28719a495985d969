"""Epoch: the number of the worker's latest connection to the broker, shared with its children."""

from __future__ import annotations

import mmap


class Epoch:
    """Counter of connections to the broker, in memory shared with processes forked later.

    When a connection ends, Celery's pool discards a batch that waits for a child, but the batch may already
    be in the child's pipe. Its messages are delivered again, so the child must not run it.
    """

    def __init__(self) -> None:
        self._count = memoryview(mmap.mmap(-1, 8)).cast("Q")

    def begin(self) -> None:
        """Begin the epoch of a new connection."""
        self._count[0] += 1

    @property
    def current(self) -> int:
        """Number of the latest connection."""
        return self._count[0]
