"""Deliveries to a sink, as its receiver sees them during a soak."""

from __future__ import annotations

import time
from collections.abc import Iterable


class Deliveries:
    """Notes when each result first came. Written by one thread, read by others.

    Attributes:
        received: id of a job to that time, Unix time, in the order of receipt.
    """

    def __init__(self) -> None:
        self.received: dict[str, float] = {}

    def note(self, job_ids: Iterable[str]) -> None:
        """Note results that have just come."""
        now = time.time()
        for job_id in job_ids:
            self.received.setdefault(job_id, now)

    def last_received(self, ids: set[str]) -> float | None:
        """Return when the last of these results came; None if one has not."""
        times = [self.received.get(job_id) for job_id in ids]
        known = [moment for moment in times if moment is not None]
        return max(known, default=0.0) if len(known) == len(times) else None
