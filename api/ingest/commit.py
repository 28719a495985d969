"""The moment in which uploads become jobs: images stored, then jobs recorded and enqueued.

Single uploads that come while others are being stored share an object and a call to Redis with each other
(`api.ingest.group_commit`): storage costs by the object, about half as much for an image among several.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from api.ingest.group_commit import GroupCommit
from core.errors import DataLostError, RedisFullError, StorageUnavailableError
from core.formats.layout import ImageBytes
from core.jobs import NewJob, Shard, new_job_id, object_key
from core.lanes import SINGLE
from core.messages import QUEUES, Envelope
from core.redis.job_store import Accepted, Idempotency, JobStore, RateLimit, Refusal, Submission
from core.shards import MAX_BYTES, split
from core.storage import ObjectStore


@dataclass(frozen=True, slots=True)
class Image:
    """An image to store and classify, and what is known of it; fields as of `core.jobs.NewJob`.

    `cost_ms`: what it costs to decode (`core.cost`).
    """

    data: ImageBytes
    format: str
    camera: str
    captured_ms: int | None
    expires_ms: int | None
    cost_ms: int = 0


@dataclass(frozen=True, slots=True)
class Upload:
    """Images that are accepted all or none; other fields as of `core.redis.job_store.Submission`."""

    images: Sequence[Image]
    lane: str
    idempotency: Idempotency | None
    limit: RateLimit | None
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Committed:
    """The jobs of an upload, unless `accepted` says that others stand for it."""

    jobs: list[NewJob]
    accepted: Accepted


class _Draft:
    """An upload with the jobs that it asks for."""

    def __init__(self, upload: Upload, jobs: list[NewJob]) -> None:
        self.upload = upload
        self.jobs = jobs
        self.keys = [job.image_key for job in jobs]


class Commits:
    """Stores, records and enqueues uploads. Safe to share between threads, not across a fork."""

    def __init__(self, jobs: JobStore, objects: ObjectStore, envelope: Envelope) -> None:
        self._jobs = jobs
        self._objects = objects
        self._envelope = envelope
        self._singles = GroupCommit(self._commit, _fit)

    def commit(self, upload: Upload) -> Committed:
        """Accept an upload; when this returns, its images and jobs are safe.

        Raises:
            StorageUnavailableError: nothing was accepted.
            RedisUnavailableError: nothing may have been accepted.
            QueueFullError, RedisFullError, RateLimitError, TooManyCamerasError, IdempotencyConflictError,
            DataLostError: nothing was accepted; see `JobStore.accept_many`.
        """
        if upload.lane == SINGLE and len(upload.images[0].data) <= MAX_BYTES:
            return self._singles.do(upload)
        (outcome,) = self._commit([upload])
        if not isinstance(outcome, Committed):
            raise outcome
        return outcome

    def _commit(self, uploads: Sequence[Upload]) -> list[Committed | Refusal]:
        """Accept uploads of one lane."""
        drafts = _drafts(uploads)
        self._store(drafts)
        outcomes = self._accept(drafts)
        self._discard_refused(drafts, outcomes)
        return [
            Committed(draft.jobs, outcome) if isinstance(outcome, Accepted) else outcome
            for draft, outcome in zip(drafts, outcomes, strict=True)
        ]

    def _store(self, drafts: Sequence[_Draft]) -> None:
        images = [
            (key, image.data)
            for draft in drafts
            for key, image in zip(draft.keys, draft.upload.images, strict=True)
        ]
        try:
            self._objects.put_many(images)
        except StorageUnavailableError:
            self._discard([key for key, _ in images])
            raise

    def _accept(self, drafts: Sequence[_Draft]) -> list[Accepted | Refusal]:
        lane = drafts[0].upload.lane
        jobs = [job for draft in drafts for job in draft.jobs]
        keys = [key for draft in drafts for key in draft.keys]
        costs = [image.cost_ms for draft in drafts for image in draft.upload.images]
        messages = self._envelope.messages(keys, lane, [job.expires_ms for job in jobs], costs)
        submissions = [
            Submission(draft.jobs, draft.upload.idempotency, draft.upload.limit, draft.upload.owner)
            for draft in drafts
        ]
        try:
            return self._jobs.accept_many(submissions, lane, QUEUES[lane], messages)
        except (RedisFullError, DataLostError):
            # A certain no. After any other error the jobs may be accepted, so their images must stay.
            self._discard(keys)
            raise

    def _discard_refused(self, drafts: Sequence[_Draft], outcomes: Sequence[Accepted | Refusal]) -> None:
        """Remove the objects of which no image belongs to a job."""
        refused = [_refused(outcome) for outcome in outcomes]
        if any(refused):
            kept = (draft for draft, out in zip(drafts, refused, strict=True) if not out)
            needed = {object_key(key) for draft in kept for key in draft.keys}
            self._discard([key for draft in drafts for key in draft.keys if object_key(key) not in needed])

    def _discard(self, keys: Sequence[str]) -> None:
        # What storage does not remove now stays behind, in no record, until the retention sweep finds it; and
        # so does an image that was refused in an object that others need.
        with suppress(StorageUnavailableError):
            self._objects.delete_many(keys)


def _refused(outcome: Accepted | Refusal) -> bool:
    """Say whether nothing of an upload was accepted: Redis said no, or one with the same key was faster."""
    return not isinstance(outcome, Accepted) or outcome.places is None


def _fit(uploads: list[Upload]) -> int:
    """Return how many of these single uploads one object takes."""
    return len(
        split([(len(image.data), image.cost_ms) for (image,) in (upload.images for upload in uploads)])[0]
    )


def _drafts(uploads: Sequence[Upload]) -> list[_Draft]:
    """Make the jobs of each upload, with images that share objects as far as they fit."""
    images = [image for upload in uploads for image in upload.images]
    jobs: list[NewJob] = []
    for numbers in split([(len(image.data), image.cost_ms) for image in images]):
        shard = Shard.new(len(numbers)) if len(numbers) > 1 else None
        ids = shard.job_ids if shard else [new_job_id()]
        jobs += [
            NewJob(
                id=job_id,
                camera=image.camera,
                format=image.format,
                size=len(image.data),
                captured_ms=image.captured_ms,
                expires_ms=image.expires_ms,
                shard=shard,
            )
            for job_id, image in zip(ids, images[numbers.start : numbers.stop], strict=True)
        ]
    rest = iter(jobs)
    return [_Draft(upload, [next(rest) for _ in upload.images]) for upload in uploads]
