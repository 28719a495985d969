"""The time limit of what a worker's child does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """Have the kernel kill this process if the block takes longer.

    The kernel needs neither Python, which a decoder may keep from running, nor the parent, which may have no
    connection. The parent's pool reports the batch as crashed.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
