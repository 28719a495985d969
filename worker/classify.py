"""N items in, N results out: fetch, decode, run the model, settle. Runs in the worker's child process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from core.engine import Engine
from core.errors import (
    ImageError,
    LedgerUnavailableError,
    ObjectNotFoundError,
    StorageUnavailableError,
    WastestreamError,
)
from core.images import Pixels, decode
from core.jobs import JobState, Outcome, job_id_of
from core.ledger import JobStore
from core.objects import ObjectStore

MOST_STARTS: Final = 3
"""How often a job may be started before it is settled as one that crashes the worker."""

PUT_BACK: Final = "put back"
"""Result of an item that could not be settled now, because Redis or storage is down."""

NOT_SERVED: Final = "not served"
"""Result of an item whose image storage did not serve now, though it serves others."""

_GIVEN_UP: Final = (
    "Storage has not served the image for a minute, though it serves others; check storage, send it again."
)

Result = JobState | None | Literal["put back", "not served"]
"""The job's terminal state, None where its record is gone, `PUT_BACK` or `NOT_SERVED`."""


@dataclass(frozen=True, slots=True)
class Item:
    """One job as the parent hands it over.

    `repeated`: delivered before, so it runs alone and its starts are counted.
    `cancelled`: revoked before it started, so it only needs to be settled. `given_up`: storage has not
    served its image often enough, so it settles `failed`.
    """

    key: str
    repeated: bool = False
    cancelled: bool = False
    given_up: bool = False

    @property
    def job_id(self) -> str:
        """Id of the job whose image is at `key`."""
        return job_id_of(self.key)


class Classifier:
    """Runs batches against one engine, one job store and one object store. Not thread-safe."""

    def __init__(self, engine: Engine, jobs: JobStore, objects: ObjectStore) -> None:
        self._engine = engine
        self._jobs = jobs
        self._objects = objects
        self._loop = asyncio.new_event_loop()
        self._begun: set[str] = set()  # ids whose start was counted in the batch that runs
        self._owed: set[str] = set()  # ids of jobs put back, whose start must not count as a crash

    def run(self, items: Sequence[Item]) -> list[Result]:
        """Classify and settle `items`; return what became of each, in order.

        An image that cannot be fetched or decoded settles `failed` and leaves the others alone. While
        storage or Redis is down the items concerned are `PUT_BACK`, and `NOT_SERVED` those whose images
        storage does not serve while it serves others.
        """
        try:
            return self._run(items)
        except LedgerUnavailableError:
            # Nothing is known to have settled. Settling is idempotent, so doing all again is safe.
            self._owed |= self._begun
            return [PUT_BACK] * len(items)

    def _run(self, items: Sequence[Item]) -> list[Result]:
        self._begun.clear()
        self._forgive()
        results: dict[str, Result] = {}
        outcomes: list[Outcome] = []
        wanted: list[Item] = []
        for item in items:
            verdict = self._verdict(item)
            if verdict is None:
                wanted.append(item)
            elif isinstance(verdict, Outcome):
                outcomes.append(verdict)
            else:
                results[item.job_id] = verdict.state
        found = self._classified(wanted)
        outcomes += [outcome for outcome in found if outcome is not None]
        if outcomes:
            states = self._jobs.settle(outcomes, self._engine.manifest.model_id)
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

    def _verdict(self, item: Item) -> Outcome | _Settled | None:
        """Return how the job ends without a look at its image, or None if it needs one."""
        if item.cancelled:
            return Outcome(item.job_id, JobState.CANCELLED)
        if item.given_up:
            return Outcome(item.job_id, JobState.FAILED, error=_GIVEN_UP)
        if not item.repeated:
            return None
        begun = self._jobs.begin(item.job_id)
        if not isinstance(begun, int):
            return _Settled(begun)
        self._begun.add(item.job_id)
        if begun < MOST_STARTS:
            return None
        return Outcome(
            item.job_id,
            JobState.FAILED,
            error=f"The image crashed the worker {MOST_STARTS} times; look at it before sending it again.",
        )

    def _classified(self, items: Sequence[Item]) -> list[Outcome | None]:
        """Return each item's outcome, None where storage does not answer."""
        fetched = self._loop.run_until_complete(self._objects.get_many([item.key for item in items]))
        decoded = [_decoded(found) for found in fetched]
        images = [pixels for pixels in decoded if isinstance(pixels, np.ndarray)]
        logits = iter(self._engine.logits(np.stack(images)) if images else ())
        outcomes: list[Outcome | None] = []
        for item, pixels in zip(items, decoded, strict=True):
            if isinstance(pixels, np.ndarray):
                prediction = self._engine.manifest.predict(float(next(logits)))
                outcomes.append(Outcome(item.job_id, JobState.CLASSIFIED, prediction))
            elif isinstance(pixels, ImageError | ObjectNotFoundError):
                outcomes.append(Outcome(item.job_id, JobState.FAILED, error=str(pixels)))
            else:
                outcomes.append(None)
        return outcomes


@dataclass(frozen=True, slots=True)
class _Settled:
    """A job that needs nothing more: its state, None if its record is gone."""

    state: JobState | None


def _decoded(found: bytes | WastestreamError) -> Pixels | WastestreamError:
    if isinstance(found, WastestreamError):
        return found
    try:
        return decode(found)
    except ImageError as error:
        return error
