"""Classification of a batch: fetch, decode, run the model, settle. Runs in the worker's child process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

import numpy as np
from celery.utils.log import get_logger

from core.errors import (
    ImageError,
    ImageTooLargeError,
    ObjectNotFoundError,
    RedisUnavailableError,
    StorageUnavailableError,
    WastestreamError,
)
from core.images import Pixels, decode
from core.jobs import TOO_OLD, JobState, Outcome
from core.model.engine import Engine
from core.redis.job_store import JobStore
from core.storage import ObjectStore
from worker.stats import StageTimes
from worker.time_limit import killed_after, time_limit
from worker.transport.delivery import Item

logger = get_logger(__name__)

MAX_STARTS: Final = 3
"""Starts of an isolated job after which it settles `failed`, because it crashes the worker."""


class Retry(Enum):
    """Kind of retry of a job that could not be settled."""

    AFTER_OUTAGE = auto()  # Redis or storage is down
    WITH_BACKOFF = auto()  # storage serves other images, but not this one
    ISOLATED = auto()  # without the others of its batch, beside which its image did not fit into memory


Result = JobState | Retry | None
"""The job's terminal state, None if its record is gone, or how to retry it."""

_NO_MEMORY: Final = (
    "Decoding the image needs more memory than a worker's child may allocate; send a smaller image, "
    "or raise WASTESTREAM_CHILD_MEMORY."
)

_MISSING: Final = "Storage does not have the image; send it again."
# Not storage's own message: the name of a shared object has the ids of all its jobs, also of other clients.

_RETRIES_EXHAUSTED: Final = (
    "Storage did not serve the image for a minute, although it serves others; check storage, send it again."
)


class Classifier:
    """Runs batches against one engine, one job store and one object store. Not thread-safe.

    The kernel kills this process if a batch, or an isolated job, takes longer than `timeout` seconds plus the
    time for decoding its images.
    """

    def __init__(self, engine: Engine, jobs: JobStore, objects: ObjectStore, *, timeout: float) -> None:
        self._engine = engine
        self._jobs = jobs
        self._objects = objects
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self.stage_times = StageTimes()
        """Seconds of each stage of the latest batch."""
        self._started: set[str] = set()  # ids whose start was counted in the current batch
        self._not_crashed: set[str] = set()  # ids to retry, whose start must not count as a crash

    def run(self, items: Sequence[Item]) -> list[Result]:
        """Classify and settle `items`; return the result of each, in order.

        An image that cannot be fetched or decoded settles `failed` and does not affect the others.
        """
        self.stage_times = StageTimes()
        if any(item.isolated for item in items):
            return self._run_isolated(items)
        return self._attempt(items)

    def _run_isolated(self, items: Sequence[Item]) -> list[Result]:
        """Run jobs one by one, each settled before the next starts: a crash counts for one of them only."""
        results: list[Result] = []
        for item in items:
            results += self._attempt([item])
            if results[-1] is Retry.AFTER_OUTAGE:  # The others would fail too, each after its own time-outs.
                break
            if results[-1] is Retry.WITH_BACKOFF:
                # It may have taken a time-out of storage, and meanwhile all other jobs wait.
                return results + [Retry.ISOLATED] * (len(items) - len(results))
        return results + [Retry.AFTER_OUTAGE] * (len(items) - len(results))

    def _attempt(self, items: Sequence[Item]) -> list[Result]:
        try:
            with killed_after(time_limit(self._timeout, (item.cost_ms for item in items))):
                return self._run(items)
        except RedisUnavailableError:
            # Some jobs may have settled. Settling is idempotent, so a retry of all is safe.
            self._not_crashed |= self._started
            return [Retry.AFTER_OUTAGE] * len(items)

    def _run(self, items: Sequence[Item]) -> list[Result]:
        self._started.clear()
        self._forgive()
        results: dict[str, Result] = {}
        outcomes: list[Outcome] = []
        to_classify: list[Item] = []
        withdrawn = self._jobs.withdrawn([item.job_id for item in items])
        for item in items:
            decided = self._decide(item, withdrawn)
            if decided is None:
                to_classify.append(item)
            elif isinstance(decided, Outcome):
                outcomes.append(decided)
            else:
                results[item.job_id] = decided.state
        unserved: list[str] = []
        for item, outcome in zip(to_classify, self._classify(to_classify), strict=True):
            if isinstance(outcome, Outcome):
                outcomes.append(outcome)
            elif outcome is Retry.ISOLATED:
                results[item.job_id] = outcome
            else:
                unserved.append(item.job_id)
        if outcomes:
            results.update(self._settle(outcomes))
        if unserved:
            self._not_crashed |= self._started.intersection(unserved)
            self._forgive()
            is_up = len(unserved) < len(to_classify) or self._storage_is_up()
            results.update(dict.fromkeys(unserved, Retry.WITH_BACKOFF if is_up else Retry.AFTER_OUTAGE))
        return [results[item.job_id] for item in items]

    def _settle(self, outcomes: Sequence[Outcome]) -> Iterable[tuple[str, JobState | None]]:
        began = time.perf_counter()
        states = self._jobs.settle(outcomes, self._engine.manifest.model_id)
        self.stage_times.settle += time.perf_counter() - began
        return zip((outcome.job_id for outcome in outcomes), states, strict=True)

    def _storage_is_up(self) -> bool:
        try:
            self._objects.ping()
        except StorageUnavailableError:
            return False
        return True

    def _forgive(self) -> None:
        self._jobs.forgive(self._not_crashed)
        self._not_crashed.clear()

    def _decide(self, item: Item, withdrawn: set[str]) -> Outcome | _Settled | None:
        """Return the outcome of a job that needs no image; None if its image must be classified."""
        if item.cancelled or item.job_id in withdrawn:
            return Outcome(item.job_id, JobState.CANCELLED)
        if item.expires_ms is not None and item.expires_ms < time.time_ns() // 1_000_000:
            return Outcome(item.job_id, JobState.EXPIRED, error=TOO_OLD)
        if item.retries_exhausted:
            return Outcome(item.job_id, JobState.FAILED, error=_RETRIES_EXHAUSTED)
        return self._count_start(item) if item.isolated else None

    def _count_start(self, item: Item) -> Outcome | _Settled | None:
        """Count the start of an isolated job; return as `_decide`."""
        starts = self._jobs.begin(item.job_id)
        if not isinstance(starts, int):
            return _Settled(starts)
        self._started.add(item.job_id)
        if starts < MAX_STARTS:
            return None
        return Outcome(
            item.job_id,
            JobState.FAILED,
            error=f"The image crashed the worker {MAX_STARTS} times; inspect it before sending it again.",
        )

    def _classify(self, items: Sequence[Item]) -> list[Outcome | Retry | None]:
        """Return each item's outcome, `Retry.ISOLATED` if memory is short, None if storage is unavailable."""
        began = time.perf_counter()
        fetched = self._loop.run_until_complete(self._objects.get_many([item.key for item in items]))
        fetched_at = time.perf_counter()
        decoded = [_decoded(image, is_isolated=len(items) == 1) for image in fetched]
        decoded_at = time.perf_counter()
        images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
        logits = iter(self._engine.logits(np.stack(images)) if images else ())
        self.stage_times.fetch += fetched_at - began
        self.stage_times.decode += decoded_at - fetched_at
        self.stage_times.model += time.perf_counter() - decoded_at
        outcomes: list[Outcome | Retry | None] = []
        for item, pixels in zip(items, decoded, strict=True):
            if isinstance(pixels, np.ndarray):
                prediction = self._engine.manifest.predict(float(next(logits)))
                outcomes.append(Outcome(item.job_id, JobState.CLASSIFIED, prediction))
            elif isinstance(pixels, ObjectNotFoundError):
                logger.warning("Job %s fails: %s", item.job_id, pixels, extra={"job_id": item.job_id})
                outcomes.append(Outcome(item.job_id, JobState.FAILED, error=_MISSING))
            elif isinstance(pixels, ImageError):
                outcomes.append(Outcome(item.job_id, JobState.FAILED, error=str(pixels)))
            else:
                outcomes.append(Retry.ISOLATED if isinstance(pixels, MemoryError) else None)
        return outcomes


@dataclass(frozen=True, slots=True)
class _Settled:
    """A job that has settled already: its state, None if its record is gone."""

    state: JobState | None


def _decoded(
    image: memoryview | WastestreamError, *, is_isolated: bool
) -> Pixels | WastestreamError | MemoryError:
    if isinstance(image, WastestreamError):
        return image
    try:
        return decode(image)
    except ImageError as error:
        return error
    except MemoryError as error:
        return ImageTooLargeError(_NO_MEMORY) if is_isolated else error
