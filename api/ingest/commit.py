"""Commit of uploads: images are stored, then jobs recorded and enqueued.

Single uploads that come while others are being stored share an object and a call to Redis with each other
(`api.ingest.group_commit`): storage costs by the object, about half as much for an image among several.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from api.ingest.group_commit import GroupCommit
from core import traces
from core.errors import DataLostError, RedisFullError, StorageUnavailableError
from core.formats.layout import ImageBytes
from core.jobs import Job
from core.lanes import SINGLE
from core.messages import QUEUES, Envelope
from core.redis.admission import Accepted, Idempotency, RateLimit, Rejection, Submission
from core.redis.job_store import JobStore
from core.shards import MAX_BYTES, Shard, fitting, object_key, split
from core.storage import Content, ObjectStore


@dataclass(frozen=True, slots=True)
class Origin:
    """Origin of an image.

    `captured_ms`: when it was taken, if the camera said. `expires_ms`: when it becomes too old, if ever.
    Both ms since 1970. `retry_of`: id of the job whose image is sent again, if it is.
    """

    camera: str
    captured_ms: int | None = None
    expires_ms: int | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """An image with a valid header.

    `format` is a key of `MEDIA_TYPES`; `cost_ms` is the cost of decoding it (`core.cost`).
    """

    data: ImageBytes
    format: str
    cost_ms: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Upload:
    """Images that are accepted all or none; other fields as of `core.redis.admission.Submission`.

    `lane`: one of `core.lanes.LANES`. `trace`: `traceparent` of the request.
    """

    images: Sequence[Image]
    lane: str
    idempotency: Idempotency | None = None
    limit: RateLimit | None = None
    owner: str = ""
    trace: str = field(default_factory=traces.current)


class Commits:
    """Stores, records and enqueues uploads. Safe to share between threads, not across a fork."""

    def __init__(self, jobs: JobStore, objects: ObjectStore, envelope: Envelope) -> None:
        self._jobs = jobs
        self._objects = objects
        self._envelope = envelope
        self._singles = GroupCommit(self._commit_singles, _fitting)

    def commit(self, upload: Upload) -> Accepted:
        """Accept an upload; when this returns, its images and jobs are safe.

        Raises:
            StorageUnavailableError: nothing was accepted.
            RedisUnavailableError: nothing may have been accepted.
            QueueFullError, RedisFullError, RateLimitError, TooManyCamerasError, IdempotencyConflictError,
            DataLostError: nothing was accepted; see `JobStore.accept_many`.
        """
        if upload.lane == SINGLE and len(upload.images[0].data) <= MAX_BYTES:
            return self._singles.do(upload)
        (outcome,) = self._commit([upload], split(_sizes([upload])))
        if not isinstance(outcome, Accepted):
            raise outcome
        return outcome

    def commit_call(self, uploads: Sequence[Upload]) -> list[Accepted | Rejection]:
        """Accept the uploads of one call, of one lane; return the outcome of each.

        They share objects, and stand together as `JobStore.accept_many` says. Raises as `commit`, but for
        the errors that it returns.
        """
        return self._commit(uploads, split(_sizes(uploads)), one_call=True)

    def _commit_singles(self, uploads: Sequence[Upload]) -> list[Accepted | Rejection]:
        """Accept single uploads whose images one object takes."""
        return self._commit(uploads, [range(len(uploads))])

    def _commit(
        self, uploads: Sequence[Upload], shards: Sequence[range], *, one_call: bool = False
    ) -> list[Accepted | Rejection]:
        """Accept uploads of one lane; `shards` are the numbers of the images, counted over all, in each."""
        images = [image for upload in uploads for image in upload.images]
        parents = [upload.trace for upload in uploads for _ in upload.images]
        jobs: list[Job] = []
        objects: list[tuple[str, Content]] = []
        messages: list[str] = []
        for numbers in shards:
            own = slice(numbers.start, numbers.stop)
            new, stored, message = self._shard(images[own], uploads[0].lane, parents[own])
            jobs += new
            objects.append(stored)
            messages.append(message)
        began = time.time_ns()
        self._store(objects)
        stored_at = time.time_ns()
        outcomes = self._accept(
            _submissions(uploads, jobs), uploads[0].lane, messages, objects, one_call=one_call
        )
        traces.record_each(parents, "storage put", (began, stored_at))
        traces.record_each(parents, "accept", (stored_at, time.time_ns()))
        self._discard_rejected(objects, outcomes)
        return outcomes

    def _shard(
        self, images: Sequence[Image], lane: str, parents: Sequence[str]
    ) -> tuple[list[Job], tuple[str, Content], str]:
        """Return jobs, object (key and bytes) and message of images that share an object."""
        shard = Shard.new([(image.origin.camera, image.format) for image in images])
        suffix = shard.suffix
        jobs = [
            Job(
                id=job_id,
                camera=image.origin.camera,
                format=image.format,
                size=len(image.data),
                captured_ms=image.origin.captured_ms,
                expires_ms=image.origin.expires_ms,
                shard=suffix,
                retry_of=image.origin.retry_of,
            )
            for job_id, image in zip(shard.job_ids, images, strict=True)
        ]
        keys = [shard.image_key(job.id, job.camera, job.format) for job in jobs]
        packed = shard.pack([(key, image.data) for key, image in zip(keys, images, strict=True)])
        message = self._envelope.message(
            keys, lane, [job.expires_ms for job in jobs], [image.cost_ms for image in images], parents
        )
        return jobs, (shard.key, packed), message

    def _store(self, objects: Sequence[tuple[str, Content]]) -> None:
        try:
            self._objects.put_many(objects)
        except StorageUnavailableError:
            self._discard([key for key, _ in objects])
            raise

    def _accept(
        self,
        submissions: Sequence[Submission],
        lane: str,
        messages: Sequence[str],
        objects: Sequence[tuple[str, Content]],
        *,
        one_call: bool,
    ) -> list[Accepted | Rejection]:
        try:
            return self._jobs.accept_many(submissions, lane, QUEUES[lane], messages, one_call=one_call)
        except (RedisFullError, DataLostError):
            # A certain no. After any other error the jobs may be accepted, so their images must stay.
            self._discard([key for key, _ in objects])
            raise

    def _discard_rejected(
        self, objects: Sequence[tuple[str, Content]], outcomes: Sequence[Accepted | Rejection]
    ) -> None:
        """Remove the objects without any image of a job."""
        # An upload has no jobs if Redis rejected it, or one with the same idempotency key was faster.
        accepted = [outcome.jobs for outcome in outcomes if isinstance(outcome, Accepted) and outcome.jobs]
        if len(accepted) < len(outcomes):
            needed = {object_key(job.image_key) for jobs in accepted for job in jobs}
            self._discard([key for key, _ in objects if key not in needed])

    def _discard(self, keys: Sequence[str]) -> None:
        # What storage does not remove now stays behind, in no record, until the retention sweep finds it; and
        # so does an image that was rejected in an object that others need.
        with suppress(StorageUnavailableError):
            self._objects.delete_many(keys)


def _fitting(uploads: Sequence[Upload]) -> int:
    """Return how many of these single uploads one object takes."""
    return fitting(_sizes(uploads))


def _sizes(uploads: Sequence[Upload]) -> list[tuple[int, int]]:
    """Return bytes and cost of each image, as `core.shards` asks for them."""
    return [(len(image.data), image.cost_ms) for upload in uploads for image in upload.images]


def _submissions(uploads: Sequence[Upload], jobs: Sequence[Job]) -> list[Submission]:
    """Return the submission of each upload, given the jobs of all, in order."""
    submissions: list[Submission] = []
    begin = 0
    for upload in uploads:
        end = begin + len(upload.images)
        submissions.append(Submission(jobs[begin:end], upload.idempotency, upload.limit, upload.owner))
        begin = end
    return submissions
