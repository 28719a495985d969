"""worker.stats: totals of a worker's own work."""

from __future__ import annotations

import time

import pytest

from core.ids import new_job_id
from worker.stats import StageTimes, Stats


def test_batches_are_counted_by_size_and_stage() -> None:
    """A size falls into the bucket of the next power of two; times add up."""
    stats = Stats()
    for size in (1, 2, 3, 4, 5, 32):
        stats.end(size, 0.5, StageTimes(fetch=0.1, decode=0.2, model=0.05, settle=0.01))
    totals = stats.totals()
    assert (totals["batches"], totals["images"]) == (6, 47)
    sizes = {name: count for name, count in totals.items() if name.startswith("size:")}
    assert sizes == {"size:1": 1, "size:2": 1, "size:4": 2, "size:8": 1, "size:32": 1}
    assert [totals[name] for name in ("busy", "fetch", "decode", "model", "settle")] == pytest.approx(
        [3.0, 0.6, 1.2, 0.3, 0.06]
    )


def test_waiting_is_counted_from_acceptance() -> None:
    """Each job of a batch counts, from the time in its id to now."""
    stats = Stats()
    job_ids = [new_job_id(), new_job_id()]
    time.sleep(0.05)
    stats.begin(("single", job_id) for job_id in job_ids)
    assert 0.1 <= stats.totals()["queued"] < 60
