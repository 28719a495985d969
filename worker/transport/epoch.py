"""Which of the worker's connections to the broker is the latest; its children see it too."""

from __future__ import annotations

import mmap


class Epoch:
    """Counts connections to the broker, in memory that is shared with processes forked later.

    A batch that waits for a child when its connection ends is discarded by Celery's pool, but it may lie in
    the child's pipe by then. Its messages are delivered again, so the child leaves it alone.
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
