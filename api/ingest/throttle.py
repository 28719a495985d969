"""Spares Redis and storage the uploads of API keys that have just been told to wait."""

from __future__ import annotations

import math
import time

from core.errors import RateLimitError
from core.redis.job_store import Accepted, RateLimit


class Throttle:
    """Remembers which limits are used up. Redis decides, for all API processes group_commit."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}  # as many as there are API keys with a limit

    def check(self, limit: RateLimit | None) -> None:
        """Return if the limit is not known to be used up.

        Raises:
            RateLimitError: it is.
        """
        if limit is None:
            return
        left = self._until.get(limit.name, 0.0) - time.monotonic()
        if left > 0:
            raise RateLimitError(left)

    def learn(self, limit: RateLimit | None, seconds: float) -> None:
        """Remember that nothing is left of the limit for so long."""
        if limit is not None:
            self._until[limit.name] = time.monotonic() + seconds


def limit_headers(limit: RateLimit | None, accepted: Accepted) -> dict[str, str]:
    """Return an upload's `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).

    `t` is the seconds until the whole limit is there again or, where nothing is left, until one image is.
    """
    if limit is None:
        return {}
    found = {"RateLimit-Policy": f'"images";q={limit.burst};w={math.ceil(limit.burst / limit.rate)}'}
    if accepted.left is not None and accepted.whole_in is not None:
        found["RateLimit"] = f'"images";r={accepted.left};t={math.ceil(accepted.whole_in)}'
    return found
