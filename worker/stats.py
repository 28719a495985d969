"""Statistics of one worker, sent with each heartbeat."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from core.ids import accepted_ms


@dataclass(slots=True)
class Spent:
    """Seconds that the child spent on one batch, by stage."""

    fetch: float = 0.0
    decode: float = 0.0
    model: float = 0.0
    settle: float = 0.0


class Stats:
    """Totals since the worker started. Counting costs microseconds a batch, and no call to Redis."""

    def __init__(self) -> None:
        self._totals: Counter[str] = Counter()

    def begin(self, job_ids: Iterable[str]) -> None:
        """Count how long the jobs of a batch that starts now have waited since they were accepted."""
        now = time.time_ns() // 1_000_000
        self._totals["queued"] += sum(max(0, now - accepted_ms(job_id)) for job_id in job_ids) / 1000  # type: ignore[assignment]

    def end(self, size: int, seconds: float, spent: Spent) -> None:
        """Count a batch of `size` jobs that came back `seconds` after it was handed to the child."""
        self._totals.update({"batches": 1, "images": size, f"size:{_bucket(size)}": 1})
        self._totals.update({"busy": seconds, **asdict(spent)})

    def totals(self) -> dict[str, float]:
        """Return the totals: what `core.redis.workers.WorkerRegistry.seen` takes.

        `batches`, `images`; `size:N`, batches with at most N images, and more than N/2; in seconds `queued`
        (summed over images, from acceptance to the start of the batch), `busy` (from handing a batch to the
        child to having its results) and, within it, the stages of `Spent`.
        """
        return dict(self._totals)


def _bucket(size: int) -> int:
    """Return the least power of two that is not less than `size`."""
    return 1 << (size - 1).bit_length()
