"""Cost of a backlog: submit and poll calls, and Redis' memory, by pending jobs. No worker runs."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Final

import redis

from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.lanes import SINGLE
from core.messages import QUEUES, Envelope
from core.redis.job_store import JobStore
from core.redis.keys import INSTALLATION
from core.redis.pending import PendingJobs
from infra.lab.bench.http import Address, Connection, ids_in, parsed, wait_for
from infra.lab.bench.spread import Latency, latency

_AT_ONCE: Final = 500
"""Jobs in one call while the queue is filled or emptied."""

_PREDICTION: Final = Prediction("non_biodegradable", 0.987654, review=False)
_NEVER_MS: Final = 2**53  # later than any job was accepted
_MODEL: Final = "2026.01.31-0715+0123456789ab"  # as long as a real one
_TICK: Final = 0.01  # seconds


@dataclass(frozen=True, slots=True)
class Waiting:
    """Calls with `pending` jobs."""

    pending: int
    submit: Latency
    poll: Latency


@dataclass(frozen=True, slots=True)
class Backlog:
    """Calls by the number of pending jobs, and Redis' memory, bytes a job.

    `submit_ratio` and `poll_ratio`: p50 with the most pending jobs, divided by p50 with none (the mean of
    before and after, so that a machine that slows down does not look like a cost); medians of the rounds.
    """

    waiting: tuple[Waiting, ...]
    submit_ratio: float
    poll_ratio: float
    pending_bytes: float
    finished_bytes: float


@dataclass(frozen=True, slots=True)
class _Calls:
    """Seconds of each call with `pending` jobs."""

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
    """Measure on a stack without workers; leave it empty.

    Args:
        jobs: the stack's job store; it is emptied.
        envelope: prepares the messages.
        address: of the API.
        request: an upload.
        counts: numbers of pending jobs, ascending, the first 0.
        samples: calls of each kind in a round.
        rounds: repetitions, each from an empty queue to an empty queue.
    """
    _call(address, request, [], max(1, samples // 4))  # Connections, scripts and caches.
    measured: list[list[_Calls]] = []
    for _ in range(rounds):
        empty(jobs.client)
        empty_bytes = _used(jobs)
        filler = _Filler(jobs, envelope)
        calls, filled_bytes = [], empty_bytes
        for count in counts:
            if count:
                # Uploads of the previous measurement are pending too, and have the same size.
                filler.fill(count - jobs.pending())
                filled_bytes = _used(jobs)
            calls.append(_measure(address, request, filler.ids, count, samples))
        finished_bytes, finished = filler.finish()
        empty(jobs.client)
        measured.append([*calls, _measure(address, request, [], 0, samples)])
    return Backlog(
        waiting=tuple(
            Waiting(
                rounds_of[0].pending,
                latency([calls.submits for calls in rounds_of]),
                latency([calls.polls for calls in rounds_of]),
            )
            for rounds_of in zip(*measured, strict=True)
        ),
        submit_ratio=statistics.median(_ratio([calls.submits for calls in series]) for series in measured),
        poll_ratio=statistics.median(_ratio([calls.polls for calls in series]) for series in measured),
        pending_bytes=(filled_bytes - empty_bytes) / counts[-1],
        finished_bytes=(finished_bytes - empty_bytes) / finished,
    )


def empty(client: redis.Redis) -> None:
    """Empty Redis except for the installation's mark, without which the API would close."""
    mark = str(client.get(INSTALLATION))
    with client.pipeline() as pipe:
        pipe.flushall()
        pipe.set(INSTALLATION, mark)
        pipe.execute()


def _ratio(calls: Sequence[Sequence[float]]) -> float:
    """Return p50 of the last but one (most jobs) divided by the mean of the first and the last (none)."""
    none = statistics.mean([statistics.median(calls[0]), statistics.median(calls[-1])])
    return statistics.median(calls[-2]) / none


class _Filler:
    """Creates pending jobs without images: no worker fetches them."""

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
        """Settle every pending job and delete the messages; return Redis' bytes and the number of jobs."""
        settled = 0
        pending = PendingJobs(self._jobs.client)
        while ids := pending.accepted_before(SINGLE, _NEVER_MS, _AT_ONCE):
            self._jobs.settle([Outcome(job_id, JobState.CLASSIFIED, _PREDICTION) for job_id in ids], _MODEL)
            settled += len(ids)
        self._jobs.client.delete(*QUEUES.values())
        return _used(self._jobs), settled


def _measure(address: Address, request: bytes, ids: Sequence[str], pending: int, samples: int) -> _Calls:
    submits, polls = _call(address, request, ids, samples)
    return _Calls(pending, submits, polls)


def _call(
    address: Address, request: bytes, ids: Sequence[str], samples: int
) -> tuple[list[float], list[float]]:
    """Return the seconds of each upload and each poll, called in turn."""
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
            (submitted,) = ids_in(body)
            seconds, body = await _timed(connection, wait_for(next(spread_out, submitted), 0), 200)
            polls.append(seconds)
            if parsed(body)["state"] != "queued":
                raise AssertionError("a job was settled although no worker runs")
    return submits, polls


async def _timed(connection: Connection, request: bytes, expected: int) -> tuple[float, bytes]:
    since = time.perf_counter()
    body = await connection.call(request, expected)
    return time.perf_counter() - since, body


def _used(jobs: JobStore) -> int:
    """Return the bytes of Redis' data once the background has freed the deleted keys."""
    while (memory := jobs.client.info("memory"))["lazyfree_pending_objects"]:
        time.sleep(_TICK)
    return int(memory["used_memory"])
