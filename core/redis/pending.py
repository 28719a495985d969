"""Jobs that have not settled, by their times: `PendingJobs`, on Redis."""

from __future__ import annotations

from typing import cast

import redis

from core.lanes import LANES
from core.redis import keys
from core.redis.client import translated
from core.redis.pauses import PAUSES, paused_lanes


class PendingJobs:
    """Reads the times of jobs that have not settled, in milliseconds by Redis' clock.

    Every method raises `RedisUnavailableError` while Redis is down.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def accepted_before(self, lane: str, milliseconds: int, limit: int) -> list[str]:
        """Return ids of a lane's jobs that were accepted before a time, the oldest first."""
        return self._before(keys.PENDING[lane], milliseconds, limit)

    def expired_before(self, milliseconds: int, limit: int) -> list[str]:
        """Return ids of jobs that became too old before a time, the oldest first."""
        return self._before(keys.EXPIRING, milliseconds, limit)

    def newest_ms(self, lane: str) -> int | None:
        """Return the time of acceptance of a lane's newest job; None if all jobs have settled."""
        with translated():
            newest = self._client.zrange(keys.PENDING[lane], 0, 0, desc=True, withscores=True)
        return int(newest[0][1]) if newest else None

    def oldest(self) -> tuple[int, dict[str, tuple[str, int]]]:
        """Return Redis' clock, and the oldest job of each lane that has one: id and time of acceptance."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            for lane in LANES:
                pipe.zrange(keys.PENDING[lane], 0, 0, withscores=True)
            (seconds, microseconds), *firsts = pipe.execute()
        jobs = {
            lane: (str(id_), int(ms)) for lane, first in zip(LANES, firsts, strict=True) for id_, ms in first
        }
        return seconds * 1000 + microseconds // 1000, jobs

    def runnable(self) -> tuple[int, float]:
        """Return the number of jobs in lanes that are not paused, and for how long the oldest has waited.

        In seconds; 0 without one. Workers are scaled by this: more of them do nothing for a paused lane.
        """
        with translated(), self._client.pipeline(transaction=False) as pipe:
            pipe.time()
            pipe.hmget(keys.SERVICE_RATE, PAUSES)
            for lane in LANES:
                pipe.zcard(keys.PENDING[lane])
                pipe.zrange(keys.PENDING[lane], 0, 0, withscores=True)
            (seconds, microseconds), pauses, *lanes = pipe.execute()
        paused, number, oldest = paused_lanes(pauses), 0, 0.0
        for lane, jobs, first in zip(LANES, lanes[::2], lanes[1::2], strict=True):
            if lane not in paused:
                number += jobs
                oldest = max([oldest, *(seconds + microseconds / 1e6 - ms / 1000 for _, ms in first)])
        return number, oldest

    def accepted_ms(self, lane: str, job_id: str) -> int | None:
        """Return a job's time of acceptance; None once it has settled."""
        with translated():
            score = self._client.zscore(keys.PENDING[lane], job_id)
        return None if score is None else int(score)

    def _before(self, key: str, milliseconds: int, limit: int) -> list[str]:
        with translated():
            ids = self._client.zrange(key, "-inf", f"({milliseconds}", byscore=True, offset=0, num=limit)
        return cast(list[str], ids)
