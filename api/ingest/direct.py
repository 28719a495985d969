"""Direct uploads: clients announce images, put them into storage by presigned URLs, and complete them.

The job of an image refers to the object that the client put, so the API never has its bytes. It keeps nothing
between the two calls: an upload's id holds all that was announced.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.admission import Admission
from api.ingest.announcement import Announcement
from api.ingest.arrivals import Arrival, Arrivals
from api.ingest.outcomes import count_accepted, count_rejected
from core import traces
from core.disk import Disk
from core.errors import QueueFullError, RateLimitError, RedisFullError, WastestreamError
from core.jobs import Job
from core.lanes import BULK
from core.messages import QUEUES, Envelope
from core.presigned import PutUrls
from core.redis.admission import Accepted, RateLimit, Rejection, Submission
from core.redis.eta import Place
from core.redis.job_store import JobStore
from core.redis.server import RedisServer
from core.redis.upload_secret import UploadSecret
from core.settings import Settings
from core.shards import split
from core.storage import ObjectStore

URL_SECONDS: Final = 900
"""Seconds for which a presigned URL is valid. For as long again the upload can be completed.

`core.redis.job_index` reads the list of jobs so much further.
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """Presigned URL for an image.

    `id`: stands for the upload. `expires_ms`: when the URL expires, milliseconds since 1970.
    """

    id: str
    url: str
    media_type: str
    expires_ms: int


UploadOutcome = tuple[Job, Place | None] | WastestreamError
"""The job of an upload, with its place in the queue, or the error."""


class DirectUploads:
    """Announces and completes direct uploads. Safe to share between threads, not across a fork."""

    def __init__(
        self,
        settings: Settings,
        jobs: JobStore,
        objects: ObjectStore,
        envelope: Envelope,
        *,
        secret: UploadSecret,
        server: RedisServer,
        disk: Disk,
    ) -> None:
        # A job's record must outlive the id of its upload: without it a second job would be made.
        self._url_seconds = min(URL_SECONDS, math.ceil(settings.retention_hours * 3600 / 2))
        self._urls = PutUrls(settings)
        self._arrivals = Arrivals(objects)
        self._jobs = jobs
        self._envelope = envelope
        self._secret = secret
        self._server = server
        self._disk = disk
        self._admission = Admission()

    def announce(self, announcements: Sequence[Announcement], limit: RateLimit | None) -> list[Slot]:
        """Return the URL for each image. Raises as `complete`, so that no client puts images in vain."""
        self._check_open(limit)
        secret = self._secret.read()
        return [self._slot(announcement, secret) for announcement in announcements]

    def complete(
        self, ids: Sequence[str], owner: str, limit: RateLimit | None
    ) -> tuple[list[UploadOutcome], Accepted]:
        """Make jobs of the uploads whose images have arrived. Those that have jobs already keep them.

        Args:
            ids: of the uploads.
            owner: id of the client's API key, which must have announced them; empty without one.
            limit: the client's rate limit.

        Returns:
            The outcome of each upload, in order, and the rest of the limit.

        Raises:
            QueueFullError, RateLimitError: nothing was accepted.
            DiskFullError, StorageUnavailableError, RedisUnavailableError, DataLostError: some may have been
                accepted; the same call can be repeated.
        """
        self._check_open(limit)
        secret = self._secret.read()
        uploads = [_opened(upload_id, secret, owner) for upload_id in ids]
        announced = {each.job_id: each for each in uploads if isinstance(each, Announcement)}
        outcomes = self._existing(announced)
        new = [each for job_id, each in announced.items() if job_id not in outcomes]
        checked = dict(zip(new, self._checked(new), strict=True))
        outcomes.update(
            (each.job_id, error) for each, error in checked.items() if not isinstance(error, Arrival)
        )
        results = list(self._accept([each for each in checked.values() if isinstance(each, Arrival)], limit))
        for _, result in results:
            if isinstance(result, Accepted):
                count_accepted(BULK, result)
        outcomes.update(self._outcomes(results))
        for outcome in outcomes.values():
            if isinstance(outcome, WastestreamError):
                count_rejected(BULK, outcome)
        left = next((result for _, result in reversed(results) if isinstance(result, Accepted)), Accepted())
        return [outcomes[each.job_id] if isinstance(each, Announcement) else each for each in uploads], left

    def _check_open(self, limit: RateLimit | None) -> None:
        self._disk.check()
        self._server.check()
        self._admission.check_limit(limit)
        self._admission.check_lane(BULK)

    def _slot(self, announcement: Announcement, secret: bytes) -> Slot:
        url = self._urls.sign(
            announcement.object_key, announcement.media_type, announcement.size, self._url_seconds
        )
        expires_ms = announcement.announced_ms + 1000 * self._url_seconds
        return Slot(announcement.sealed(secret), url, announcement.media_type, expires_ms)

    def _existing(self, job_ids: Iterable[str]) -> dict[str, UploadOutcome]:
        """Return the existing jobs, with their places."""
        jobs = [job for job in self._jobs.read_many(list(job_ids)) if job is not None]
        places = self._jobs.places([job.id for job in jobs]) if jobs else []
        return {job.id: (job, place) for job, place in zip(jobs, places, strict=True)}

    def _checked(self, announcements: Sequence[Announcement]) -> list[Arrival | WastestreamError]:
        """Return the arrival of each image, or its error."""
        minutes = 2 * self._url_seconds // 60
        expired = RequestError(
            ProblemType.UPLOAD_EXPIRED,
            f"The upload was announced more than {minutes} minutes ago; announce the image again.",
        )
        fresh = [each for each in announcements if each.age <= 2 * self._url_seconds]
        checked = dict(zip(fresh, self._arrivals.check(fresh), strict=True))
        return [checked.get(each, expired) for each in announcements]

    def _accept(
        self, arrivals: Sequence[Arrival], limit: RateLimit | None
    ) -> Iterator[tuple[Arrival, Accepted | Rejection]]:
        """Accept images, as many at a time as one message names, until the queue or the limit is used up."""
        rejection: QueueFullError | RateLimitError | None = None
        for numbers in split([(each.announcement.size, each.cost_ms) for each in arrivals]):
            group = arrivals[numbers.start : numbers.stop]
            results = [rejection] * len(group) if rejection else self._submit(group, limit)
            rejection = next(
                (each for each in results if isinstance(each, QueueFullError | RateLimitError)), None
            )
            yield from zip(group, results, strict=True)
        if isinstance(rejection, QueueFullError):
            self._admission.shed(BULK, rejection)
        elif rejection is not None:
            self._admission.limit_used_up(limit, rejection.retry_after)

    def _submit(self, group: Sequence[Arrival], limit: RateLimit | None) -> list[Accepted | Rejection]:
        jobs = [_job(each.announcement) for each in group]
        message = self._envelope.message(
            [job.image_key for job in jobs],
            BULK,
            [job.expires_ms for job in jobs],
            [each.cost_ms for each in group],
            [traces.current()] * len(group),
        )
        submissions = [
            Submission([job], each.announcement.idempotency, limit, each.announcement.owner)
            for job, each in zip(jobs, group, strict=True)
        ]
        try:
            results = self._jobs.accept_many(submissions, BULK, QUEUES[BULK], [message])
        except RedisFullError as error:
            self._admission.shed(BULK, error)
            raise
        if any(isinstance(result, Accepted) for result in results):
            # Another call may have just accepted one of them: Redis then tells the others to come back.
            return [
                self._submit([each], limit)[0] if isinstance(result, QueueFullError) else result
                for each, result in zip(group, results, strict=True)
            ]
        return results

    def _outcomes(
        self, results: Sequence[tuple[Arrival, Accepted | Rejection]]
    ) -> Iterator[tuple[str, UploadOutcome]]:
        known = self._existing(
            job_id for _, result in results if isinstance(result, Accepted) for job_id in result.known
        )
        for arrival, result in results:
            yield arrival.announcement.job_id, _outcome(result, known)


def _opened(upload_id: str, secret: bytes, owner: str) -> Announcement | RequestError:
    """Return the announcement, or the error for an id that another owner got or nobody."""
    announcement = Announcement.opened(upload_id, secret)
    if announcement is None or announcement.owner != owner:
        return RequestError(
            ProblemType.INVALID_UPLOAD,
            "The id is not one that this API key got from POST /v1/uploads; announce the image again.",
        )
    return announcement


def _job(announcement: Announcement) -> Job:
    return Job(
        id=announcement.job_id,
        camera=announcement.camera,
        format=announcement.format,
        size=announcement.size,
        captured_ms=announcement.captured_ms,
        expires_ms=announcement.expires_ms,
        shard=announcement.shard,
    )


def _outcome(result: Accepted | Rejection, known: dict[str, UploadOutcome]) -> UploadOutcome:
    if isinstance(result, QueueFullError):
        return QueueFullError(
            f"The queue is full; complete the upload again in {result.retry_after:.0f} s.", result.retry_after
        )
    if not isinstance(result, Accepted):
        return result
    if not result.known:
        return result.jobs[0], result.places[0]
    return known.get(
        result.known[0],
        RequestError(
            ProblemType.IDEMPOTENCY_CONFLICT,
            "The idempotency key belongs to an upload whose record has expired; use a new key.",
        ),
    )
