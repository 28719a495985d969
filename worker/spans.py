"""Spans of a batch, in the trace of each of its jobs that is traced."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from core import traces
from core.ids import accepted_ms
from worker.stats import StageTimes
from worker.transport.delivery import Entry

_NS: Final = 1_000_000_000


def record_batch(entries: Sequence[Entry], began_ns: int, stages: StageTimes) -> None:
    """Record waiting time, batch and stages; of these the child measures how long each takes.

    Args:
        entries: the jobs.
        began_ns: when the batch began, nanoseconds since 1970.
        stages: of the batch.
    """
    if traces.tracing is None:
        return
    ended_ns = time.time_ns()
    times = _stage_times(stages, ended_ns)
    for entry in entries:
        if entry.trace:
            job_id = entry.request.id
            waited = (1_000_000 * accepted_ms(job_id), began_ns)
            traces.tracing.record(entry.trace, "queue wait", waited, job_id=job_id)
            batch = traces.tracing.record(
                entry.trace, "batch", (began_ns, ended_ns), job_id=job_id, batch_images=len(entries)
            )
            for stage, between in times.items():
                traces.tracing.record(batch, stage, between)


def _stage_times(stages: StageTimes, ended_ns: int) -> dict[str, tuple[int, int]]:
    """Return beginning and end of each stage; the last one ends with the batch."""
    times: dict[str, tuple[int, int]] = {}
    for name, seconds in reversed(asdict(stages).items()):
        times[name] = ended_ns - round(_NS * seconds), ended_ns
        ended_ns = times[name][0]
    return times
