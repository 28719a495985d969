"""Exit code of a worker: 0 if it was asked to stop, 1 if it could not go on."""

from __future__ import annotations

import mmap


class Shutdown:
    """Reason of the worker's stop, which Celery does not record.

    The flag is shared with processes that are forked later, so a child that cannot start can set it too.
    """

    def __init__(self) -> None:
        self._failed = mmap.mmap(-1, 1)

    def fail(self) -> None:
        """Record that this worker stops because it cannot go on."""
        self._failed[0] = 1

    @property
    def exit_code(self) -> int:
        """1 if the worker could not go on, else 0."""
        return self._failed[0]
