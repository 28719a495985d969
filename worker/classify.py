"""N items in, N results out: fetch, decode, run the model, settle. Runs in the worker's child process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

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
from core.shards import job_id_of
from core.storage import ObjectStore
from worker.stats import Spent
from worker.time_limit import killed_after, time_limit

logger = get_logger(__name__)

MAX_STARTS: Final = 3
"""How often a job may be started before it is settled as one that crashes the worker."""

PUT_BACK: Final = "put back"
"""Result of an item that could not be settled now, because Redis or storage is down."""

NOT_SERVED: Final = "not served"
"""Result of an item whose image storage did not serve now, though it serves others."""

ALONE: Final = "alone"
"""Result of an item whose image did not fit into memory beside the others of its batch."""

_NO_MEMORY: Final = (
    "The image needs more memory to decode than a worker's child may take; send a smaller one, "
    "or raise WASTESTREAM_CHILD_MEMORY."
)

_MISSING: Final = "Storage does not have the image; send it again."
# Not storage's own words: the name of a shared object tells the ids of all its jobs, also those of others.

_GIVEN_UP: Final = (
    "Storage has not served the image for a minute, though it serves others; check storage, send it again."
)

Result = JobState | None | Literal["put back", "not served", "alone"]
"""The job's terminal state, None where its record is gone, `PUT_BACK`, `NOT_SERVED` or `ALONE`."""


@dataclass(frozen=True, slots=True)
class Item:
    """One job as the parent hands it over.

    `repeated`: delivered before, so it runs alone and its starts are counted.
    `cancelled`: revoked before it started, so it only needs to be settled. `given_up`: storage has not
    served its image often enough, so it settles `failed`. `expires_ms`: when its image becomes too old to be
    classified, if ever, ms since 1970. `cost_ms`: what its image costs to decode (`core.cost`).
    """

    key: str
    repeated: bool = False
    cancelled: bool = False
    given_up: bool = False
    expires_ms: int | None = None
    cost_ms: int = 0

    @property
    def job_id(self) -> str:
        """Id of the job whose image is at `key`."""
        return job_id_of(self.key)


class Classifier:
    """Runs batches against one engine, one job store and one object store. Not thread-safe.

    Whatever takes longer than `timeout` seconds, and the time that its images may cost, is ended together
    with this process: a batch, or one of several jobs that run alone.
    """

    def __init__(self, engine: Engine, jobs: JobStore, objects: ObjectStore, *, timeout: float) -> None:
        self._engine = engine
        self._jobs = jobs
        self._objects = objects
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        self.spent = Spent()
        """Where the time of the latest batch went."""
        self._begun: set[str] = set()  # ids whose start was counted in the batch that runs
        self._owed: set[str] = set()  # ids of jobs put back, whose start must not count as a crash

    def run(self, items: Sequence[Item]) -> list[Result]:
        """Classify and settle `items`; return what became of each, in order.

        An image that cannot be fetched or decoded settles `failed` and leaves the others alone; one that
        finds too little memory beside the others is to run `ALONE`. While storage or Redis is down the items
        concerned are `PUT_BACK`, and `NOT_SERVED` those whose images storage does not serve while it serves
        others.
        """
        self.spent = Spent()
        if any(item.repeated for item in items):
            return self._run_one_by_one(items)
        return self._attempt(items)

    def _run_one_by_one(self, items: Sequence[Item]) -> list[Result]:
        """Run jobs delivered before, each settled before the next begins: a crash counts for one only."""
        results: list[Result] = []
        for item in items:
            results += self._attempt([item])
            if results[-1] == PUT_BACK:  # So would the others be, each after its own time-outs.
                break
            if results[-1] == NOT_SERVED:
                # That can have taken a time-out of storage, and the rest of the worker waits meanwhile.
                return results + [ALONE] * (len(items) - len(results))
        return results + [PUT_BACK] * (len(items) - len(results))

    def _attempt(self, items: Sequence[Item]) -> list[Result]:
        try:
            with killed_after(time_limit(self._timeout, (item.cost_ms for item in items))):
                return self._run(items)
        except RedisUnavailableError:
            # Nothing is known to have settled. Settling is idempotent, so doing all again is safe.
            self._owed |= self._begun
            return [PUT_BACK] * len(items)

    def _run(self, items: Sequence[Item]) -> list[Result]:
        self._begun.clear()
        self._forgive()
        results: dict[str, Result] = {}
        outcomes: list[Outcome] = []
        wanted: list[Item] = []
        withdrawn = self._jobs.withdrawn([item.job_id for item in items])
        for item in items:
            verdict = self._verdict(item, withdrawn)
            if verdict is None:
                wanted.append(item)
            elif isinstance(verdict, Outcome):
                outcomes.append(verdict)
            else:
                results[item.job_id] = verdict.state
        found = self._classified(wanted)
        outcomes += [outcome for outcome in found if isinstance(outcome, Outcome)]
        results.update(
            (item.job_id, ALONE) for item, outcome in zip(wanted, found, strict=True) if outcome == ALONE
        )
        if outcomes:
            since = time.perf_counter()
            states = self._jobs.settle(outcomes, self._engine.manifest.model_id)
            self.spent.settle += time.perf_counter() - since
            results.update(zip((outcome.job_id for outcome in outcomes), states, strict=True))
        missed = [item.job_id for item, outcome in zip(wanted, found, strict=True) if outcome is None]
        if missed:
            self._owed |= self._begun.intersection(missed)
            self._forgive()
            serves = len(missed) < len(wanted) or self._storage_answers()
            results.update(dict.fromkeys(missed, NOT_SERVED if serves else PUT_BACK))
        return [results[item.job_id] for item in items]

    def _storage_answers(self) -> bool:
        try:
            self._objects.ping()
        except StorageUnavailableError:
            return False
        return True

    def _forgive(self) -> None:
        self._jobs.forgive(self._owed)
        self._owed.clear()

    def _verdict(self, item: Item, withdrawn: set[str]) -> Outcome | _Settled | None:
        """Return how the job ends without a look at its image, or None if it needs one."""
        if item.cancelled or item.job_id in withdrawn:
            return Outcome(item.job_id, JobState.CANCELLED)
        if item.expires_ms is not None and item.expires_ms < time.time_ns() // 1_000_000:
            return Outcome(item.job_id, JobState.EXPIRED, error=TOO_OLD)
        if item.given_up:
            return Outcome(item.job_id, JobState.FAILED, error=_GIVEN_UP)
        return self._begun_again(item) if item.repeated else None

    def _begun_again(self, item: Item) -> Outcome | _Settled | None:
        """Count the start of a job that was delivered before; return as `_verdict`."""
        begun = self._jobs.begin(item.job_id)
        if not isinstance(begun, int):
            return _Settled(begun)
        self._begun.add(item.job_id)
        if begun < MAX_STARTS:
            return None
        return Outcome(
            item.job_id,
            JobState.FAILED,
            error=f"The image crashed the worker {MAX_STARTS} times; look at it before sending it again.",
        )

    def _classified(self, items: Sequence[Item]) -> list[Outcome | Literal["alone"] | None]:
        """Return each item's outcome, None where storage does not answer, `ALONE` where memory is short."""
        begun = time.perf_counter()
        fetched = self._loop.run_until_complete(self._objects.get_many([item.key for item in items]))
        there = time.perf_counter()
        decoded = [_decoded(found, alone=len(items) == 1) for found in fetched]
        readable = time.perf_counter()
        images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
        logits = iter(self._engine.logits(np.stack(images)) if images else ())
        done = time.perf_counter()
        self.spent.fetch += there - begun
        self.spent.decode += readable - there
        self.spent.model += done - readable
        outcomes: list[Outcome | Literal["alone"] | None] = []
        for item, pixels in zip(items, decoded, strict=True):
            if isinstance(pixels, np.ndarray):
                prediction = self._engine.manifest.predict(float(next(logits)))
                outcomes.append(Outcome(item.job_id, JobState.CLASSIFIED, prediction))
            elif isinstance(pixels, ObjectNotFoundError):
                logger.warning("Job %s fails: %s", item.job_id, pixels)
                outcomes.append(Outcome(item.job_id, JobState.FAILED, error=_MISSING))
            elif isinstance(pixels, ImageError):
                outcomes.append(Outcome(item.job_id, JobState.FAILED, error=str(pixels)))
            else:
                outcomes.append(ALONE if isinstance(pixels, MemoryError) else None)
        return outcomes


@dataclass(frozen=True, slots=True)
class _Settled:
    """A job that needs nothing more: its state, None if its record is gone."""

    state: JobState | None


def _decoded(found: memoryview | WastestreamError, *, alone: bool) -> Pixels | WastestreamError | MemoryError:
    if isinstance(found, WastestreamError):
        return found
    try:
        return decode(found)
    except ImageError as error:
        return error
    except MemoryError as error:
        return ImageTooLargeError(_NO_MEMORY) if alone else error
