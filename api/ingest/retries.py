"""Retries: the kept image of a job that failed or expired becomes a new job, which names the old one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from api.http.problems import RequestError
from api.ingest.check import check
from api.ingest.commit import Origin, Upload
from api.ingest.upload import Ingest
from core.errors import (
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
from core.image_header import MEDIA_TYPES
from core.jobs import Job, JobState
from core.lanes import BULK, SINGLE
from core.redis.admission import Idempotency, RateLimit
from core.redis.eta import Place
from core.redis.job_index import Cursor, JobFilter, JobIndex
from core.redis.job_store import JobStore
from core.shards import StoredObject, object_key
from core.storage import ObjectStore

RETRYABLE: Final = frozenset({JobState.FAILED, JobState.EXPIRED})
"""States of jobs that can be retried."""

MAX_SECONDS: Final = 10.0
"""Seconds after which `retry_all` begins no further job; its caller goes on where it ended."""

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
    """The outcome of one job's retry: the new job and its place in the queue, or the error.

    `known`: whether the job had been retried before, so that its new job is not new.
    """

    old_id: str
    job: Job | None = None
    place: Place | None = None
    known: bool = False
    error: WastestreamError | None = None


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
        self, wanted: JobFilter, after: Cursor | None, most: int, limit: RateLimit | None = None
    ) -> tuple[list[Retried], Cursor | None]:
        """Retry jobs of the list, in the lane of bulk uploads.

        Args:
            wanted: which, with `states` of `RETRYABLE` only.
            after: where to begin, None for the beginning.
            most: maximum jobs.
            limit: as of `retry`.

        Returns:
            The outcome of each, and where to go on; None at the end.

        Raises:
            WastestreamError: as `Ingest.submit`, and no job was retried. After the first one such an error
                ends the call early.
        """
        page = self._index.page(wanted, after, most)
        attempts = _Attempts(self._jobs, self._objects, self._ingest, BULK, limit)
        began = time.monotonic()
        outcomes: list[Retried] = []
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
                outcomes.append(Retried(job.id, error=error))
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
                HTTPStatus.CONFLICT,
                f"Job {old.id} is {old.state}; only a failed or expired job can be retried.",
            )
        # No client can send a key with a space.
        idempotency = Idempotency(f"retry {old.id}", "retry")
        if known := self._jobs.known(idempotency):
            return self._existing(old, known)
        image = check(self._image(old), MEDIA_TYPES[old.format])
        origin = Origin(old.camera, old.captured_ms, None, None, retry_of=old.id)
        accepted = self._ingest.submit(
            Upload([image], origin, self._lane, idempotency, self._limit, old.owner)
        )
        return Retried(old.id, accepted.jobs[0], accepted.places[0])

    def _existing(self, old: Job, ids: Sequence[str]) -> Retried:
        (job,), (place,) = self._jobs.read_many(ids), self._jobs.places(ids)
        if job is None:
            raise RequestError(
                HTTPStatus.GONE, f"Job {old.id} was retried as {ids[0]}, whose record has expired."
            )
        return Retried(old.id, job, place, known=True)

    def _image(self, job: Job) -> memoryview:
        try:
            if self._kept is None or self._kept.key != object_key(job.image_key):
                self._kept = self._objects.get_object(job.image_key)
            return self._kept.image(job.image_key)
        except ObjectNotFoundError as error:
            raise RequestError(
                HTTPStatus.GONE, f"The image of job {job.id} is no longer stored, so it cannot be retried."
            ) from error
