"""What is measured, how often and for how long."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """A kind of frame, pixels."""

    name: str
    width: int
    height: int


SIZES: Final = (Size("720p", 1280, 720), Size("1080p", 1920, 1080), Size("225", 225, 225))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run. Times in seconds.

    Each round measures the limit and every way of uploading one after the other, so that what disturbs the
    machine disturbs all of them; the report gives the median of the rounds, the lowest and the highest.
    """

    seconds: float
    """Length of one measurement, after its warm-up."""
    warm_up: float = 1.5
    rounds: int = 3
    sizes: tuple[Size, ...] = SIZES
    """The first is that of the measurements that are made with one size only."""
    batches_under_way: int = 4
    """Full batches a worker under way while throughput is measured: one runs, two wait, one is uploaded."""
    frames: int = 64
    """Different frames of each size."""
    loads: tuple[float, ...] = (0.5, 0.8)
    """Shares of the throughput at which latency is measured."""
    least_samples: int = 200
    """Answers from which a latency is computed; the measurement goes on until there are as many."""
    pending: tuple[int, ...] = (0, 10_000, 100_000)
    """Jobs that wait while submitting and polling is timed."""
    workers: tuple[int, ...] = (1, 2, 4)
    """Numbers of workers besides one per core."""
    starts: int = 3
    """Starts of a worker and of the API that are timed."""

    @property
    def main(self) -> Size:
        """The size of the measurements that are made with one size only."""
        return self.sizes[0]

    @property
    def minutes(self) -> float:
        """Roughly how long the run takes: what is measured, and 6 s for each start and end of a stack."""
        one = self.seconds + self.warm_up + 1.5
        loads = 4 * len(self.sizes) + 1 + 1 + 2 * len(self.loads) + 2 * len(self.workers) + 2
        stacks = len(self.sizes) + self.rounds * len(self.workers) + 1
        return (
            one * self.rounds * loads
            + 6 * stacks
            + 3 * self.starts
            + self.rounds * max(self.pending) / 4000
            + 5
        ) / 60


SHORT_SECONDS: Final = 0.5


def short_plan() -> Plan:
    """Return the plan that passes through everything in seconds; its figures say little."""
    return Plan(
        seconds=SHORT_SECONDS,
        warm_up=0.2,
        rounds=1,
        batches_under_way=1,
        sizes=(Size("225", 225, 225),),
        frames=4,
        loads=(0.5,),
        least_samples=5,
        pending=(0, 200, 1_000),
        workers=(),
        starts=1,
    )
