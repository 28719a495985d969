"""Keeps uploads out of storage while their jobs would not be taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from core.errors import LedgerFullError, QueueFullError

SHUT_SECONDS: Final = 0.5
"""How long uploads are refused at once after one was refused. All are told to come back later than that."""


class Gate:
    """Remembers for a moment that Redis refused an upload, in this process.

    Whether there is room is known only when a job is accepted, after its image was stored. Under overload
    every refused upload would cost storage a put and a delete; so only one in a while finds out.
    """

    def __init__(self) -> None:
        self._shut_until = 0.0
        self._refusal: Callable[[], QueueFullError | LedgerFullError] | None = None

    def check(self) -> None:
        """Return if uploads may try; raise again what refused the last one if that was just now."""
        refusal = self._refusal
        if refusal is not None and time.monotonic() < self._shut_until:
            raise refusal()

    def shut(self, why: QueueFullError | LedgerFullError) -> None:
        """Refuse uploads for a moment."""
        # Not the error itself: it holds its traceback, and so the bytes of the upload that was refused.
        if isinstance(why, QueueFullError):
            self._refusal = partial(QueueFullError, str(why), why.retry_after)
        else:
            self._refusal = partial(LedgerFullError, str(why))
        self._shut_until = time.monotonic() + SHUT_SECONDS
