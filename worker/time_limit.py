"""Time limit of the worker's child."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

_SAFETY: Final = 20
"""Factor by which a decode may exceed its estimate, on a slow and busy machine."""


def time_limit(timeout: float, costs_ms: Iterable[int]) -> float:
    """Return the time limit, in seconds, of a batch of images with these decode costs."""
    return timeout + _SAFETY * sum(costs_ms) / 1000


@contextmanager
def killed_after(seconds: float) -> Iterator[None]:
    """Have the kernel kill this process if the block takes longer; the parent's pool then reports a crash.

    The kernel can do that while a decoder blocks Python, and while the parent has no connection.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
