"""Retries: the kept image of a job that failed or expired becomes a new job, which names the old one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.check import check
from api.ingest.commit import Origin, Upload
from api.ingest.upload import Ingest
from core.errors import (
    CorruptImageError,
    DataLostError,
    DiskFullError,
    ImageError,
    ObjectNotFoundError,
    QueueFullError,
    RateLimitError,
    RedisUnavailableError,
    StorageUnavailableError,
    TooManyCamerasError,
    WastestreamError,
)
from core.image_header import media_type
from core.jobs import Job, JobState
from core.lanes import BULK, SINGLE
from core.redis.admission import Accepted, Idempotency, RateLimit
from core.redis.eta import Place
from core.redis.job_index import Cursor, JobFilter, JobIndex
from core.redis.job_store import JobStore
from core.shards import StoredObject, object_key
from core.storage import ObjectStore

RETRYABLE: Final = frozenset({JobState.FAILED, JobState.EXPIRED})
"""States of jobs that can be retried."""

MAX_SECONDS: Final = 10.0
"""Seconds after which `retry_all` begins no further job; another call continues."""

_OUTAGES: Final = (
    DataLostError,
    DiskFullError,
    QueueFullError,
    RateLimitError,
    RedisUnavailableError,
    StorageUnavailableError,
)
"""Errors that the next job would meet as well."""

REJECTIONS: Final = (ImageError, RequestError, TooManyCamerasError)
"""Errors of one job alone."""


@dataclass(frozen=True, slots=True)
class Retried:
    """A job that was retried: the new job, and its place in the queue.

    `known`: whether the old job had been retried before, so that its new one is not new.
    """

    old_id: str
    job: Job
    place: Place | None
    known: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A job that could not be retried, and why."""

    old_id: str
    error: WastestreamError


class Retries:
    """Retries jobs through the ingest. Safe to share between threads, not across a fork.

    The idempotency key of a retry derives from the old job's id, so a job has one retry, however often and by
    whomever it is asked for. The new job belongs to the API key that sent the old one.
    """

    def __init__(self, jobs: JobStore, index: JobIndex, objects: ObjectStore, ingest: Ingest) -> None:
        self._jobs = jobs
        self._index = index
        self._objects = objects
        self._ingest = ingest

    def retry(self, job: Job, limit: RateLimit | None = None) -> Retried:
        """Retry one job, in the lane of single uploads.

        Args:
            job: the old one.
            limit: rate limit of the caller, from which the image is taken.

        Raises:
            RequestError: 409, its state is none of `RETRYABLE`; 410, its image is no longer stored.
            WastestreamError: as `Ingest.submit`.
        """
        return _Attempts(self._jobs, self._objects, self._ingest, SINGLE, limit).retry(job)

    def retry_all(
        self, wanted: JobFilter, after: Cursor | None, max_jobs: int, limit: RateLimit | None = None
    ) -> tuple[list[Retried | Failed], Cursor | None]:
        """Retry jobs of the list, in the lane of bulk uploads.

        Args:
            wanted: filter, with `states` of `RETRYABLE` only.
            after: where to begin, None for the beginning.
            max_jobs: maximum jobs.
            limit: as of `retry`.

        Returns:
            The outcome of each, and where to go on; None at the end.

        Raises:
            WastestreamError: as `Ingest.submit`, and no job was retried. After the first one such an error
                ends the call early.
        """
        page = self._index.page(wanted, after, max_jobs)
        attempts = _Attempts(self._jobs, self._objects, self._ingest, BULK, limit)
        began = time.monotonic()
        outcomes: list[Retried | Failed] = []
        for job, place in zip(self._jobs.read_many(page.ids), page.places, strict=True):
            if job is None:  # Its record has just expired.
                continue
            try:
                if outcomes and time.monotonic() - began > MAX_SECONDS:
                    return outcomes, place
                outcomes.append(attempts.retry(job))
            except _OUTAGES:
                if not outcomes:
                    raise
                return outcomes, place
            except REJECTIONS as error:
                outcomes.append(Failed(job.id, error))
        return outcomes, page.next


class _Attempts:
    """Retries of one call. It keeps the last object: jobs in a row often share one."""

    def __init__(
        self, jobs: JobStore, objects: ObjectStore, ingest: Ingest, lane: str, limit: RateLimit | None
    ) -> None:
        self._jobs = jobs
        self._objects = objects
        self._ingest = ingest
        self._lane = lane
        self._limit = limit
        self._kept: StoredObject | None = None

    def retry(self, old: Job) -> Retried:
        if old.state not in RETRYABLE:
            raise RequestError(
                ProblemType.JOB_NOT_RETRYABLE,
                f"Job {old.id} is {old.state}; only a failed or expired job can be retried.",
            )
        # No client can send a key with a space.
        idempotency = Idempotency(f"retry {old.id}", "retry", cameras=[old.camera])
        if known := self._jobs.known(idempotency):
            return _retried(old, self._ingest.existing(known), known=True)
        origin = Origin(old.camera, old.captured_ms, retry_of=old.id)
        data = self._image(old)
        try:
            image = check(data, media_type(data, old.format), origin)
        except (ImageError, RequestError) as error:
            raise CorruptImageError(
                f"The stored image of job {old.id} is not accepted now: {error}"
            ) from error
        accepted = self._ingest.submit(Upload([image], self._lane, idempotency, self._limit, old.owner))
        return _retried(old, accepted)

    def _image(self, job: Job) -> memoryview:
        try:
            if self._kept is None or self._kept.key != object_key(job.image_key):
                self._kept = self._objects.get_object(job.image_key)
            return self._kept.image(job.image_key)
        except ObjectNotFoundError as error:
            raise RequestError(
                ProblemType.IMAGE_GONE,
                f"The image of job {job.id} is no longer stored, so it cannot be retried.",
            ) from error


def _retried(old: Job, accepted: Accepted, *, known: bool = False) -> Retried:
    return Retried(old.id, accepted.jobs[0], accepted.places[0], known=known)
