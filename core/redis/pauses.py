"""Paused lanes: uploads are still accepted, but workers take none of their jobs until they are resumed.

They are fields of the hash of the service rate, which their readers read anyway.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import redis

from core.lanes import LANES
from core.redis import keys
from core.redis.client import translated

_PAUSED: Final = {lane: f"{lane}:paused" for lane in LANES}

PAUSES: Final = tuple(_PAUSED.values())
"""Fields of `keys.SERVICE_RATE`: since when each lane is paused (ms, Redis' clock), missing if it is not."""


class Pauses:
    """Pauses and resumes lanes. Every method raises `RedisUnavailableError` while Redis is down.

    Workers read the pauses with their heartbeats, so a change takes effect within about two seconds.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def paused(self) -> dict[str, int]:
        """Return the paused lanes, each with the time since when (ms, Redis' clock)."""
        with translated():
            values = self._client.hmget(keys.SERVICE_RATE, PAUSES)
        return {lane: int(since) for lane, since in zip(LANES, values, strict=True) if since}

    def pause(self, lane: str) -> bool:
        """Pause a lane; return whether it was not paused before."""
        if lane in self.paused():
            return False
        with translated():
            self._client.hset(keys.SERVICE_RATE, _PAUSED[lane], self._now_ms())
        return True

    def resume(self, lane: str) -> bool:
        """Resume a lane; return whether it was paused."""
        with translated(), self._client.pipeline() as pipe:  # a transaction, which `core.redis.oom` lets pass
            pipe.hdel(keys.SERVICE_RATE, _PAUSED[lane])
            # The queue did not stand still in the time of the pause: see `core.redis.eta`.
            pipe.hset(keys.SERVICE_RATE, mapping=dict.fromkeys(("since", f"{lane}:since"), self._now_ms()))
            (resumed, _) = pipe.execute()
        return bool(resumed)

    def _now_ms(self) -> str:
        seconds, microseconds = self._client.time()
        return str(seconds * 1000 + microseconds // 1000)


def paused_lanes(values: Iterable[Any]) -> frozenset[str]:
    """Return the paused lanes, given the values of `PAUSES`."""
    return frozenset(lane for lane, since in zip(LANES, values, strict=True) if since)
