"""The time limit of what a worker's child does."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

_SAFETY: Final = 20
"""How much longer than its estimate a decode may take: on a slow machine, with others at work."""


def time_limit(timeout: float, costs_ms: Iterable[int]) -> float:
    """Return seconds that a batch of images with these costs may take: `timeout`, and for its decodes."""
    return timeout + _SAFETY * sum(costs_ms) / 1000


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
