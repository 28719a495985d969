"""Stages of the workers' time, from the workers' own reports."""

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

_TIMEOUT: Final = 60.0  # seconds; workers report every second unless the machine is overloaded
_SIZE: Final = "size:"


@dataclass(frozen=True, slots=True)
class Stages:
    """Work of all workers; times in milliseconds an image.

    `sizes`: number of batches with at most that many images and more than half as many. `queued`: from
    acceptance to the start of the batch. `stages`: in the child. `handover`: passing batches to the child and
    results back.
    """

    batches: int
    images: int
    sizes: dict[str, int]
    queued: float
    stages: dict[str, float]
    handover: float

    @property
    def mean_batch(self) -> float:
        """Average images in a batch."""
        return self.images / self.batches


class StageClock:
    """Measures the work of the workers between two calls."""

    def __init__(self, jobs: JobStore, workers: int) -> None:
        self._jobs = jobs
        self._workers = workers
        self._before = self._totals()

    def lap(self) -> Stages:
        """Return the work since the last lap, or since the clock was created.

        Raises:
            BrokenPipelineError: a worker does not report, or no batch was reported.
        """
        now = self._totals()
        work = now - self._before  # Totals only grow; unchanged ones are left out.
        self._before = now
        images = work["images"]
        if not images:
            raise BrokenPipelineError("The workers report no batch, although images were classified.")
        stages = {stage: 1000 * work[stage] / images for stage in STAGES}
        return Stages(
            batches=round(work["batches"]),
            images=round(images),
            sizes=_sizes(work),
            queued=1000 * work["queued"] / images,
            stages=stages,
            handover=1000 * work["busy"] / images - sum(stages.values()),
        )

    def _totals(self) -> Counter[str]:
        """Return the sum of all workers' reports, each newer than this call."""
        now = self._jobs.now_ms() / 1000
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            reports = WorkerRegistry(self._jobs.client).reports()
            if len(reports) >= self._workers and all(report["at"] > now for report in reports.values()):
                return _sum(reports)
            time.sleep(0.05)
        raise BrokenPipelineError(f"Only {len(reports)} of {self._workers} workers report.")


def _sum(reports: Mapping[str, Mapping[str, float]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for report in reports.values():
        total.update({name: value for name, value in report.items() if name != "at"})
    return total


def _sizes(work: Mapping[str, float]) -> dict[str, int]:
    counts = {
        int(name.removeprefix(_SIZE)): round(count) for name, count in work.items() if name.startswith(_SIZE)
    }
    return {str(size): counts[size] for size in sorted(counts)}
