"""Statistics of one worker, sent with each heartbeat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from core import metrics
from core.ids import accepted_ms


@dataclass(slots=True)
class StageTimes:
    """Seconds that the child spent on each stage of one batch."""

    fetch: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    settle: float = 0.0


class Stats:
    """Totals since the worker started, also as metrics. They cost microseconds, and no call to Redis."""

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()

    def begin(self, jobs: Iterable[tuple[str, str]]) -> None:
        """Add the waiting times of a batch that starts now, since acceptance; `jobs`: lane and id of each."""
        now = time.time_ns() // 1_000_000
        for lane, job_id in jobs:
            seconds = max(0, now - accepted_ms(job_id)) / 1000
            self._totals["queued"] += seconds  # type: ignore[assignment]
            metrics.QUEUE_WAIT.observe(seconds, lane)

    def end(self, size: int, seconds: float, stage_times: StageTimes) -> None:
        """Count a batch of `size` jobs that took `seconds` in the child."""
        self._totals.update({"batches": 1, "images": size, f"size:{_bucket(size)}": 1})
        stages = asdict(stage_times)
        self._totals.update({"busy": seconds, **stages})
        metrics.BATCH_IMAGES.observe(size)
        metrics.BATCH_SECONDS.observe(seconds)
        for stage, spent in stages.items():
            if spent:  # not that of a batch that never came so far
                metrics.STAGE_SECONDS.observe(spent, stage)

    def totals(self) -> dict[str, float]:
        """Return the totals, for `core.redis.workers.WorkerRegistry.seen`.

        `batches`, `images`; `size:N`, batches with more than N/2 and at most N images; in seconds `queued`
        (sum over images, from acceptance to the start of the batch), `busy` (from the start of a batch to its
        results) and, within it, the stages of `StageTimes`.
        """
        return dict(self._totals)


def _bucket(size: int) -> int:
    """Return the smallest power of two that is at least `size`."""
    return 1 << (size - 1).bit_length()
