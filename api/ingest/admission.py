"""Load shedding: spares Redis and storage the uploads that Redis would reject."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from core.errors import QueueFullError, RateLimitError, RedisFullError
from core.redis.admission import Accepted, RateLimit

SHED_SECONDS: Final = 0.5
"""Seconds for which uploads of a lane are rejected at once after Redis rejected one."""

Overload = QueueFullError | RedisFullError

_OPEN: Final = (0.0, partial(RedisFullError, ""))  # of a lane without a recent rejection


class Admission:
    """Short memory of Redis' rejections in this process: full lanes and used-up rate limits.

    Redis decides, for all API processes together, but only when a job is accepted, after its image was
    stored. Under overload every rejected upload would cost storage a put and a delete; so only one in a while
    finds out.
    """

    def __init__(self) -> None:
        self._lanes: dict[str, tuple[float, Callable[[], Overload]]] = {}
        self._limits: dict[str, float] = {}  # as many as there are API keys with a limit

    def check_lane(self, lane: str) -> None:
        """Check that no upload of the lane was rejected just now; raise the same error again if one was."""
        until, error = self._lanes.get(lane, _OPEN)
        if time.monotonic() < until:
            raise error()

    def check_limit(self, limit: RateLimit | None) -> None:
        """Check that the limit is not known to be used up.

        Raises:
            RateLimitError: it is.
        """
        if limit is None:
            return
        left = self._limits.get(limit.name, 0.0) - time.monotonic()
        if left > 0:
            raise RateLimitError(left)

    def shed(self, lane: str, error: Overload) -> None:
        """Reject uploads of the lane for a moment."""
        # Not the error itself: it holds its traceback, and so the bytes of the upload that was rejected.
        again: Callable[[], Overload]
        if isinstance(error, QueueFullError):
            again = partial(QueueFullError, str(error), error.retry_after)
        else:
            again = partial(RedisFullError, str(error))
        self._lanes[lane] = (time.monotonic() + SHED_SECONDS, again)

    def limit_used_up(self, limit: RateLimit | None, seconds: float) -> None:
        """Remember that the limit is used up for some seconds."""
        if limit is not None:
            self._limits[limit.name] = time.monotonic() + seconds


def limit_headers(limit: RateLimit | None, accepted: Accepted) -> dict[str, str]:
    """Return an upload's `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

    `t` is the seconds until the whole limit is there again or, where nothing is left, until one image is.
    """
    if limit is None:
        return {}
    headers = {"RateLimit-Policy": f'"images";q={limit.burst};w={math.ceil(limit.burst / limit.rate)}'}
    if accepted.left is not None and accepted.whole_in is not None:
        headers["RateLimit"] = f'"images";r={accepted.left};t={math.ceil(accepted.whole_in)}'
    return headers
