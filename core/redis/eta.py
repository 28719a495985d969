"""How fast the queue drains, and what follows: a job's place, when it will settle, when to come back.

`settle.lua` keeps the measure: jobs worked off and the milliseconds in which there was work, both fading
with `FADE_MS`. Times without work do not count, so a quiet system is not mistaken for a slow one. It keeps
the same for each lane, whose jobs may be dearer than those of the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Self

from core.lanes import SHARE

FADE_MS: Final = 30_000
"""Milliseconds of work after which a measurement counts 1/e of what it did."""

_SLOWEST: Final = 1 / 3600
"""Jobs a second below which nothing is said of the future: nobody is working."""


@dataclass(frozen=True, slots=True)
class Place:
    """A queued job's place: how many jobs of its lane are before it, and seconds until it settles.

    `eta_seconds` is an estimate; None while nothing is known, as before the first job and without workers.
    """

    ahead: int
    eta_seconds: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {"ahead": self.ahead, "eta_seconds": self.eta_seconds}


@dataclass(frozen=True, slots=True)
class Drain:
    """The queue at one moment.

    `pending`: jobs not settled, by lane. `rate`: jobs a second, if known. `paces`: jobs a second of each lane
    while it had work, as far as known.
    """

    pending: dict[str, int]
    rate: float | None
    paces: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def measured(
        cls,
        pending: dict[str, int],
        now_ms: float,
        measure: Sequence[float],
        of_lanes: Mapping[str, Sequence[float]] = MappingProxyType({}),
    ) -> Self:
        """Return it from what Redis keeps.

        Args:
            pending: jobs not settled, by lane.
            now_ms: Redis' clock, milliseconds.
            measure: the fields `jobs`, `ms` and `since` of the measure, 0 for one that is not there.
            of_lanes: the fields `jobs` and `ms` of lanes' own measures, likewise.
        """
        jobs, milliseconds, since = measure
        # Nothing settled though there was work: that time counts too, or a queue that stands still would
        # seem as fast as it was when it moved.
        still = max(0.0, now_ms - since) if any(pending.values()) and since else 0.0
        keep = math.exp(-still / FADE_MS)
        spent = milliseconds * keep + still
        rate = 1000 * jobs * keep / spent if spent > 0 else 0.0
        standing = rate * milliseconds / (1000 * jobs) if jobs else 0.0  # 1 unless it stands still
        paces = {lane: 1000 * standing * done / ms for lane, (done, ms) in of_lanes.items() if done and ms}
        return cls(pending, rate if rate > _SLOWEST else None, paces)

    @property
    def total(self) -> int:
        """Jobs not settled."""
        return sum(self.pending.values())

    def place(self, lane: str, ahead: int) -> Place:
        """Return the place of a job of `lane` with `ahead` jobs of that lane before it."""
        if self.rate is None:
            return Place(ahead, None)
        share = SHARE[lane] * self.rate
        pace = self.paces.get(lane, share)
        if pace < share / 2:  # Its jobs are dear, or wait for dear ones of the other lane.
            return Place(ahead, round((ahead + 1) / pace, 3) if pace > _SLOWEST else None)
        others = self.total - self.pending[lane]
        # Its lane gets its share until the other is empty, and then all.
        jobs = min((ahead + 1) / SHARE[lane], ahead + 1 + others)
        return Place(ahead, round(jobs / self.rate, 3))

    def seconds_for(self, jobs: int) -> float | None:
        """Return how long it takes to work off so many jobs; None if unknown."""
        return None if self.rate is None else jobs / self.rate
