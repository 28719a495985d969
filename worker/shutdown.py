"""How a worker ends: as it was asked to, or because it could not go on."""

from __future__ import annotations

import mmap


class Shutdown:
    """Knows why the worker ends. Celery does not: it stops one that gives up as one that was asked to.

    Its byte is shared with processes that are forked later, so a child that cannot start can say so as well.
    """

    def __init__(self) -> None:
        self._failed = mmap.mmap(-1, 1)

    def fail(self) -> None:
        """Say that this worker ends because it cannot go on."""
        self._failed[0] = 1

    @property
    def exit_code(self) -> int:
        """1 if it could not go on, else 0."""
        return self._failed[0]
