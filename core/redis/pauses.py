"""Paused lanes: uploads are still accepted, but workers take none of their jobs until they are resumed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import redis

from core.lanes import LANES
from core.redis import keys
from core.redis.client import translated


class Pauses:
    """Pauses and resumes lanes. Every method raises `RedisUnavailableError` while Redis is down.

    Workers read the pauses with their heartbeats, so a change takes effect within about two seconds.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def paused(self) -> dict[str, int]:
        """Return the paused lanes, each with the time since when (ms, Redis' clock)."""
        with translated():
            values = self._client.hmget(keys.PAUSED, LANES)
        return {lane: int(since) for lane, since in zip(LANES, values, strict=True) if since}

    def pause(self, lane: str) -> bool:
        """Pause a lane; return whether it was not paused before."""
        if lane in self.paused():
            return False
        with translated():
            self._client.hset(keys.PAUSED, lane, str(self._now_ms()))
        return True

    def resume(self, lane: str) -> bool:
        """Resume a lane; return whether it was paused."""
        with translated(), self._client.pipeline() as pipe:  # a transaction, which `core.redis.oom` lets pass
            pipe.hdel(keys.PAUSED, lane)
            # The time of the pause is no time in which the queue stood still: see `core.redis.eta`.
            pipe.hset(keys.SERVICE_RATE, mapping=dict.fromkeys(("since", f"{lane}:since"), self._now_ms()))
            (resumed, _) = pipe.execute()
        return bool(resumed)

    def _now_ms(self) -> int:
        seconds, microseconds = self._client.time()
        return int(seconds * 1000 + microseconds // 1000)


def paused_lanes(values: Iterable[Any]) -> frozenset[str]:
    """Return the lanes that are paused, given the values of `LANES` in `keys.PAUSED`."""
    return frozenset(lane for lane, since in zip(LANES, values, strict=True) if since)
