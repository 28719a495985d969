"""Keeps uploads out of storage while their jobs would not be taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from core.errors import QueueFullError, RedisFullError

SHUT_SECONDS: Final = 0.5
"""How long uploads are refused at once after one was refused. All are told to come back later than that."""

_Refusal = QueueFullError | RedisFullError

_OPEN: Final = (0.0, partial(RedisFullError, ""))  # of a lane that nothing has shut


class Gate:
    """Remembers for a moment that Redis refused an upload of a lane, in this process.

    Whether there is room is known only when a job is accepted, after its image was stored. Under overload
    every refused upload would cost storage a put and a delete; so only one in a while finds out.
    """

    def __init__(self) -> None:
        self._refusals: dict[str, tuple[float, Callable[[], _Refusal]]] = {}

    def check(self, lane: str) -> None:
        """Return if the lane's uploads may try; raise again what refused the last one if it was just now."""
        until, refusal = self._refusals.get(lane, _OPEN)
        if time.monotonic() < until:
            raise refusal()

    def shut(self, lane: str, why: _Refusal) -> None:
        """Refuse uploads of the lane for a moment."""
        # Not the error itself: it holds its traceback, and so the bytes of the upload that was refused.
        refusal: Callable[[], _Refusal]
        if isinstance(why, QueueFullError):
            refusal = partial(QueueFullError, str(why), why.retry_after)
        else:
            refusal = partial(RedisFullError, str(why))
        self._refusals[lane] = (time.monotonic() + SHUT_SECONDS, refusal)
