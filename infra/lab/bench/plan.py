"""Plan of a benchmark: sizes, durations, repetitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Size:
    """A frame size, pixels."""

    name: str
    width: int
    height: int


SIZES: Final = (Size("720p", 1280, 720), Size("1080p", 1920, 1080), Size("225", 225, 225))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One benchmark. Times in seconds.

    Each round measures the baseline and every workload one after the other, so that other programs disturb
    all of them alike. Results are the median of the rounds, the lowest and the highest.
    """

    seconds: float
    """Length of one measurement, after its warm-up."""
    warm_up: float = 1.5
    rounds: int = 3
    sizes: tuple[Size, ...] = SIZES
    """The first is the main size, the one of measurements with a single size."""
    batches_in_flight: int = 4
    """Full batches a worker during throughput measurements: one runs, two wait, one is uploaded."""
    frames: int = 64
    """Different frames of each size."""
    utilisations: tuple[float, ...] = (0.5, 0.8)
    """Shares of the throughput at which latency is measured."""
    min_samples: int = 200
    """Calls in a latency measurement, at least; it goes on until there are as many."""
    pending: tuple[int, ...] = (0, 10_000, 100_000)
    """Pending jobs while submit and poll calls are timed."""
    workers: tuple[int, ...] = (1, 2, 4)
    """Numbers of workers beside one per core."""
    starts: int = 3
    """Timed starts of a worker and of the API."""

    @property
    def main(self) -> Size:
        """The size of measurements with a single size."""
        return self.sizes[0]

    @property
    def minutes(self) -> float:
        """Approximate duration: the measurements, and 6 s for each start and stop of a stack."""
        measurement = self.seconds + self.warm_up + 1.5
        workloads = 4 * len(self.sizes) + 1 + 1 + 2 * len(self.utilisations) + 2 * len(self.workers) + 2
        stacks = len(self.sizes) + self.rounds * len(self.workers) + 1
        return (
            measurement * self.rounds * workloads
            + 6 * stacks
            + 3 * self.starts
            + self.rounds * max(self.pending) / 4000
            + 5
        ) / 60


SHORT_SECONDS: Final = 0.5


def short_plan() -> Plan:
    """Return a plan that exercises everything in seconds; its figures mean little."""
    return Plan(
        seconds=SHORT_SECONDS,
        warm_up=0.2,
        rounds=1,
        batches_in_flight=1,
        sizes=(Size("225", 225, 225),),
        frames=4,
        utilisations=(0.5,),
        min_samples=5,
        pending=(0, 200, 1_000),
        workers=(),
        starts=1,
    )
