"""The queue's service rate, and the estimates that follow: a job's place and ETA, and `Retry-After`.

`settle.lua` measures the rate: jobs settled by work, and the milliseconds in which there was work, both
fading with `FADE_MS`. Times without work do not count, so an idle system does not look slow. Each lane has a
rate of its own besides, since jobs of one lane can cost more than those of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Self

from core.lanes import LANES, OTHER, SHARE
from core.redis import keys
from core.redis.pauses import PAUSES, paused_lanes

FADE_MS: Final = 30_000
"""Milliseconds of work after which a measurement counts 1/e of its first weight."""

MEASURES: Final = ("jobs", "ms", "since")
"""Fields of the measure of the queue; of a lane's, their names in Redis begin with the lane and a colon."""

_FIELDS: Final = [*MEASURES, *(f"{lane}:{name}" for lane in LANES for name in MEASURES), *PAUSES]

_SLOWEST: Final = 1 / 3600
"""Jobs a second below which there is no estimate: no worker is working."""


@dataclass(frozen=True, slots=True)
class Place:
    """A queued job's place: the number of jobs of its lane before it, and seconds until it settles.

    `eta_seconds` is an estimate; None while unknown, as before the first job, without workers and in a paused
    lane.
    """

    ahead: int
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class QueueState:
    """The queue at one moment.

    `pending`: jobs not settled, by lane. `rate`: jobs a second, None if unknown. `lane_rates`: jobs a second
    of each lane while it had work, as far as known. `active`: lanes of which a job settled lately. `paused`:
    lanes of which no job is taken.
    """

    pending: dict[str, int]
    rate: float | None
    lane_rates: Mapping[str, float] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    paused: frozenset[str] = frozenset()

    @classmethod
    def measured(
        cls,
        pending: dict[str, int],
        now_ms: float,
        measure: Sequence[float],
        of_lanes: Mapping[str, Sequence[float]] = MappingProxyType({}),
        paused: frozenset[str] = frozenset(),
    ) -> Self:
        """Return the state computed from Redis' measures.

        Args:
            pending: jobs not settled, by lane.
            now_ms: Redis' clock, milliseconds.
            measure: values of `MEASURES`, 0 for one that is missing.
            of_lanes: those of each lane, likewise.
            paused: the paused lanes; their jobs do not count as work.
        """
        jobs, milliseconds, since = measure
        # Nothing settled though there was work: that time counts too, or a queue that stands still would
        # seem as fast as it was when it moved.
        works = any(count for lane, count in pending.items() if lane not in paused)
        still = max(0.0, now_ms - since) if works and since else 0.0
        keep = math.exp(-still / FADE_MS)
        spent = milliseconds * keep + still
        rate = 1000 * jobs * keep / spent if spent > 0 else 0.0
        standing = rate * milliseconds / (1000 * jobs) if jobs else 0.0  # 1 unless it stands still
        lane_rates = {
            lane: 1000 * standing * done / ms for lane, (done, ms, _) in of_lanes.items() if done and ms
        }
        active = frozenset(lane for lane, (_, _, last) in of_lanes.items() if now_ms - last < FADE_MS)
        return cls(pending, rate if rate > _SLOWEST else None, lane_rates, active - paused, paused)

    @staticmethod
    def ask(pipe: Any) -> None:
        """Add to a pipeline the commands whose answers `read` takes."""
        pipe.time()
        for key in keys.PENDING.values():
            pipe.zcard(key)
        pipe.hmget(keys.SERVICE_RATE, _FIELDS)

    @classmethod
    def read(cls, answers: Sequence[Any]) -> Self:
        """Return the state from the answers to `ask`."""
        (seconds, microseconds), *counts, values = answers
        values, pauses = values[: -len(PAUSES)], values[-len(PAUSES) :]
        numbers = [float(value or 0) for value in values]
        width = len(MEASURES)
        measure, *lanes = (numbers[at : at + width] for at in range(0, len(numbers), width))
        now_ms = seconds * 1000 + microseconds // 1000
        pending = dict(zip(LANES, counts, strict=True))
        of_lanes = dict(zip(LANES, lanes, strict=True))
        return cls.measured(pending, now_ms, measure, of_lanes, paused_lanes(pauses))

    @property
    def total(self) -> int:
        """Jobs not settled."""
        return sum(self.pending.values())

    def place(self, lane: str, ahead: int) -> Place:
        """Return the place of a job of `lane` with `ahead` jobs of that lane before it."""
        if self.rate is None or lane in self.paused:
            return Place(ahead, None)
        share = SHARE[lane] * self.rate
        lane_rate = self.lane_rates.get(lane)
        jobs = ahead + 1
        # Its jobs are dear, or wait for dear ones of the other lane.
        if lane_rate is not None and lane_rate < share / 2:
            return Place(ahead, round(jobs / lane_rate, 3) if lane_rate > _SLOWEST else None)
        others = sum(count for name, count in self.pending.items() if name not in {lane, *self.paused})
        # Its lane gets its share until the other is empty, and then all.
        seconds = soonest = min(jobs / SHARE[lane], jobs + others) / self.rate
        if lane_rate is not None and OTHER[lane] in self.active:
            # If jobs of the other keep coming, this lane goes on at its own rate. Nobody knows whether they
            # do: the mean halves the largest error.
            seconds = (soonest + max(soonest, jobs / lane_rate)) / 2
        return Place(ahead, round(seconds, 3))

    def place_of(self, ranks: Sequence[int | None]) -> Place | None:
        """Return the place of a job with these ranks in the lanes, None if it is in no lane."""
        return next(
            (self.place(lane, rank) for lane, rank in zip(LANES, ranks, strict=True) if rank is not None),
            None,
        )

    def seconds_for(self, jobs: int) -> float | None:
        """Return the estimated seconds for a number of jobs; None if unknown."""
        return None if self.rate is None else jobs / self.rate
