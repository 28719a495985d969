"""Where the workers' time goes, from what they report of themselves."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from infra.lab.bench.errors import BrokenPipelineError

STAGES: Final = ("fetch", "decode", "model", "settle")

_PATIENCE: Final = 60.0  # seconds; workers report every second, where the machine lets them
_SIZE: Final = "size:"


@dataclass(frozen=True, slots=True)
class Stages:
    """What workers did: times in milliseconds an image.

    `sizes`: how many batches had at most that many images, and more than half as many. `queued`: from
    acceptance to the start of the batch. `stages`: what the child did; `handover`: what passing batches to
    the child and results back took besides.
    """

    batches: int
    images: int
    sizes: dict[str, int]
    queued: float
    stages: dict[str, float]
    handover: float

    @property
    def mean_batch(self) -> float:
        """Images in a batch, on average."""
        return self.images / self.batches


class StageClock:
    """Tells what the workers did since it was made, or last asked."""

    def __init__(self, jobs: JobStore, workers: int) -> None:
        self._jobs = jobs
        self._workers = workers
        self._before = self._totals()

    def lap(self) -> Stages:
        """Return what was done since the last time.

        Raises:
            BrokenPipelineError: a worker does not report, or nothing was done.
        """
        now = self._totals()
        done = now - self._before  # Totals only grow; what did not is left out.
        self._before = now
        images = done["images"]
        if not images:
            raise BrokenPipelineError("The workers report no batch, though images were classified.")
        stages = {stage: 1000 * done[stage] / images for stage in STAGES}
        return Stages(
            batches=round(done["batches"]),
            images=round(images),
            sizes=_sizes(done),
            queued=1000 * done["queued"] / images,
            stages=stages,
            handover=1000 * done["busy"] / images - sum(stages.values()),
        )

    def _totals(self) -> Counter[str]:
        """Return the sum of all workers' reports, once each has reported what it has done until now."""
        now = self._jobs.now_ms() / 1000
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            reports = WorkerRegistry(self._jobs.client).reports()
            if len(reports) >= self._workers and all(report["at"] > now for report in reports.values()):
                return _sum(reports)
            time.sleep(0.05)
        raise BrokenPipelineError(f"Not all of {self._workers} workers report; {len(reports)} did.")


def _sum(reports: Mapping[str, Mapping[str, float]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for report in reports.values():
        total.update({name: value for name, value in report.items() if name != "at"})
    return total


def _sizes(done: Mapping[str, float]) -> dict[str, int]:
    found = {
        int(name.removeprefix(_SIZE)): round(count) for name, count in done.items() if name.startswith(_SIZE)
    }
    return {str(size): found[size] for size in sorted(found)}
