"""How submitting, polling and memory grow with the jobs that wait. No worker runs meanwhile."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.lanes import SINGLE
from core.messages import QUEUES, Envelope
from core.redis.job_store import JobStore
from infra.lab.bench.figures import Latency, latency
from infra.lab.bench.http import Connection, ids_in, parsed, wait_for
from infra.lab.bench.load import Address
from infra.lab.bench.stack import empty

_AT_ONCE: Final = 500
"""Jobs in one call while the queue is filled or emptied."""

_PREDICTION: Final = Prediction("non_biodegradable", 0.987654, review=False)
_NEVER_MS: Final = 2**53  # later than any job was accepted
_MODEL: Final = "2026.01.31-0715+0123456789ab"  # as long as a real one
_LOOK_AGAIN: Final = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class Waiting:
    """Calls while `pending` jobs wait."""

    pending: int
    submit: Latency
    poll: Latency


@dataclass(frozen=True, slots=True)
class Backlog:
    """Calls by the number of jobs waiting, and Redis' memory, bytes a job.

    `submit_ratio` and `poll_ratio`: p50 with the most jobs waiting, divided by p50 with none (the mean of
    before and after, so that a machine that slows down does not look like growth); medians of the rounds.
    """

    waiting: tuple[Waiting, ...]
    submit_ratio: float
    poll_ratio: float
    pending_bytes: float
    finished_bytes: float


@dataclass(frozen=True, slots=True)
class _Calls:
    """Seconds of each call with so many jobs waiting."""

    pending: int
    submits: list[float]
    polls: list[float]


def measure_backlog(
    jobs: JobStore,
    envelope: Envelope,
    address: Address,
    request: bytes,
    counts: Sequence[int],
    *,
    samples: int,
    rounds: int,
) -> Backlog:
    """Measure on an empty stack without workers; leaves it empty.

    Args:
        jobs: the stack's job store; it is emptied.
        envelope: makes the messages.
        address: of the API.
        request: an upload.
        counts: jobs waiting, ascending, the first 0.
        samples: calls of each kind in a round.
        rounds: how often all is done, from an empty queue to an empty queue.
    """
    _call(address, request, [], max(1, samples // 4))  # Connections, scripts and caches.
    found: list[list[_Calls]] = []
    for _ in range(rounds):
        empty(jobs.client)
        empty_bytes = _used(jobs)
        filler = _Filler(jobs, envelope)
        calls, filled_bytes = [], empty_bytes
        for count in counts:
            if count:
                # Uploads of the measurement before are pending too, and have the same size.
                filler.fill(count - jobs.pending())
                filled_bytes = _used(jobs)
            calls.append(_measure(address, request, filler.ids, count, samples))
        finished_bytes, finished = filler.finish()
        empty(jobs.client)
        found.append([*calls, _measure(address, request, [], 0, samples)])
    return Backlog(
        waiting=tuple(
            Waiting(
                same[0].pending, latency([one.submits for one in same]), latency([one.polls for one in same])
            )
            for same in zip(*found, strict=True)
        ),
        submit_ratio=statistics.median(_ratio([one.submits for one in calls]) for calls in found),
        poll_ratio=statistics.median(_ratio([one.polls for one in calls]) for calls in found),
        pending_bytes=(filled_bytes - empty_bytes) / counts[-1],
        finished_bytes=(finished_bytes - empty_bytes) / finished,
    )


def _ratio(calls: Sequence[Sequence[float]]) -> float:
    """Return p50 of the last but one, with most jobs, to the mean of the first and the last, with none."""
    none = statistics.mean([statistics.median(calls[0]), statistics.median(calls[-1])])
    return statistics.median(calls[-2]) / none


class _Filler:
    """Makes jobs that wait, without their images: nothing fetches these here."""

    def __init__(self, jobs: JobStore, envelope: Envelope) -> None:
        self._jobs = jobs
        self._envelope = envelope
        self.ids: list[str] = []

    def fill(self, count: int) -> None:
        """Accept `count` single uploads."""
        for begin in range(0, count, _AT_ONCE):
            new = [Job(new_job_id(), "bench-0", "jpeg", 200_000) for _ in range(min(_AT_ONCE, count - begin))]
            messages = [self._envelope.message([job.image_key], SINGLE) for job in new]
            self.ids += self._jobs.accept(new, SINGLE, QUEUES[SINGLE], messages).ids

    def finish(self) -> tuple[int, int]:
        """Settle all that waits and take the messages away; return Redis' bytes, and how many settled."""
        settled = 0
        while ids := self._jobs.pending_before(SINGLE, _NEVER_MS, _AT_ONCE):
            self._jobs.settle([Outcome(one, JobState.CLASSIFIED, _PREDICTION) for one in ids], _MODEL)
            settled += len(ids)
        self._jobs.client.delete(*QUEUES.values())
        return _used(self._jobs), settled


def _measure(address: Address, request: bytes, ids: Sequence[str], pending: int, samples: int) -> _Calls:
    submits, polls = _call(address, request, ids, samples)
    return _Calls(pending, submits, polls)


def _call(
    address: Address, request: bytes, ids: Sequence[str], samples: int
) -> tuple[list[float], list[float]]:
    """Return the seconds that each upload and each question took, asked in turn."""
    return asyncio.run(_alternate(address, request, ids, samples))


async def _alternate(
    address: Address, request: bytes, ids: Sequence[str], samples: int
) -> tuple[list[float], list[float]]:
    submits, polls = [], []
    spread_out = cycle(ids[:: max(1, len(ids) // samples)])
    async with address.connect() as connection:
        for _ in range(samples):
            seconds, body = await _timed(connection, request, 202)
            submits.append(seconds)
            (made,) = ids_in(body)
            seconds, body = await _timed(connection, wait_for(next(spread_out, made), 0), 200)
            polls.append(seconds)
            if parsed(body)["state"] != "queued":
                raise AssertionError("a job was settled where no worker runs")
    return submits, polls


async def _timed(connection: Connection, request: bytes, expected: int) -> tuple[float, bytes]:
    since = time.perf_counter()
    body = await connection.call(request, expected)
    return time.perf_counter() - since, body


def _used(jobs: JobStore) -> int:
    """Return the bytes that Redis' data take, once it has freed in the background what was deleted."""
    while (memory := jobs.client.info("memory"))["lazyfree_pending_objects"]:
        time.sleep(_LOOK_AGAIN)
    return int(memory["used_memory"])
