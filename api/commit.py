"""The moment in which uploads become jobs: images stored, then jobs recorded and enqueued.

Single uploads that come while others are being stored share an object and a call to Redis with each other
(`api.together`): storage costs by the object, about half as much for an image among several.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from api.together import Together
from core.errors import StorageUnavailableError, WastestreamError
from core.jobs import NewJob, new_job_ids, object_key
from core.ledger import REFUSALS, Accepted, Idempotency, JobStore, RateLimit, Submission
from core.objects import ObjectStore
from core.queue import QUEUES, Envelope
from core.shards import split


@dataclass(frozen=True, slots=True)
class Image:
    """An image to store and classify, and what is known of it; fields as of `core.jobs.NewJob`."""

    data: bytes
    format: str
    camera: str
    captured_ms: int | None
    expires_ms: int | None


@dataclass(frozen=True, slots=True)
class Upload:
    """Images that are accepted all or none; other fields as of `core.ledger.Submission`."""

    images: Sequence[Image]
    lane: str
    idempotency: Idempotency | None
    limit: RateLimit | None


@dataclass(frozen=True, slots=True)
class Committed:
    """The jobs of an upload, unless `accepted` says that others stand for it."""

    jobs: list[NewJob]
    accepted: Accepted


class Commits:
    """Stores, records and enqueues uploads. Safe to share between threads, not across a fork."""

    def __init__(self, jobs: JobStore, objects: ObjectStore, envelope: Envelope) -> None:
        self._jobs = jobs
        self._objects = objects
        self._envelope = envelope
        self._singles = Together(self._commit, _fit)

    def commit(self, upload: Upload) -> Committed:
        """Accept an upload; when this returns, its images and jobs are safe.

        Raises:
            StorageUnavailableError: nothing was accepted.
            LedgerUnavailableError: nothing may have been accepted.
            QueueFullError, LedgerFullError, RateLimitError, TooManyCamerasError, IdempotencyConflictError:
                nothing was accepted, as of `JobStore.accept_many`.
        """
        if len(upload.images) == 1:
            return self._singles.do(upload)
        (outcome,) = self._commit([upload])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _commit(self, uploads: Sequence[Upload]) -> list[Committed | WastestreamError]:
        jobs = _new_jobs(uploads)
        keys = [[job.image_key for job in of_one] for of_one in jobs]
        self._store(keys, uploads)
        outcomes = self._accept(uploads, jobs, keys, _bundles(uploads))
        self._discard_refused(keys, outcomes)
        return [
            outcome if isinstance(outcome, WastestreamError) else Committed(of_one, outcome)
            for of_one, outcome in zip(jobs, outcomes, strict=True)
        ]

    def _accept(
        self,
        uploads: Sequence[Upload],
        jobs: Sequence[Sequence[NewJob]],
        keys: Sequence[Sequence[str]],
        bundles: Sequence[Sequence[int]],
    ) -> list[Accepted | WastestreamError]:
        """Have each bundle accepted, all or nothing; what is refused as a bundle, one by one."""
        outcomes: dict[int, Accepted | WastestreamError] = {}
        alone: list[int] = []
        submissions = [
            Submission(
                [job for number in bundle for job in jobs[number]],
                uploads[bundle[0]].lane,
                QUEUES[uploads[bundle[0]].lane],
                self._envelope.messages(
                    [key for number in bundle for key in keys[number]],
                    uploads[bundle[0]].lane,
                    jobs[bundle[0]][0].expires_ms,
                ),
                uploads[bundle[0]].idempotency,
                uploads[bundle[0]].limit,
            )
            for bundle in bundles
        ]
        for bundle, outcome in zip(bundles, self._jobs.accept_many(submissions), strict=True):
            if len(bundle) == 1:
                outcomes[bundle[0]] = outcome
            elif isinstance(outcome, REFUSALS):
                alone += bundle
            else:
                outcomes |= dict(zip(bundle, _parts(outcome, len(bundle)), strict=True))
        if alone:
            again = self._accept(
                [uploads[number] for number in alone],
                [jobs[number] for number in alone],
                [keys[number] for number in alone],
                [[number] for number in range(len(alone))],
            )
            outcomes |= dict(zip(alone, again, strict=True))
        return [outcomes[number] for number in range(len(uploads))]

    def _store(self, keys: Sequence[Sequence[str]], uploads: Sequence[Upload]) -> None:
        names = [key for of_one in keys for key in of_one]
        try:
            images = (image.data for upload in uploads for image in upload.images)
            self._objects.put_many(list(zip(names, images, strict=True)))
        except StorageUnavailableError:
            self._discard(names)
            raise

    def _discard_refused(
        self, keys: Sequence[Sequence[str]], outcomes: Sequence[Accepted | WastestreamError]
    ) -> None:
        """Remove the objects of which no image can belong to a job."""
        refused = [_refused(outcome) for outcome in outcomes]
        if not any(refused):
            return
        needed = {
            object_key(key) for of_one, out in zip(keys, refused, strict=True) if not out for key in of_one
        }
        self._discard([key for of_one in keys for key in of_one if object_key(key) not in needed])

    def _discard(self, keys: Sequence[str]) -> None:
        # What storage does not remove now stays behind, in no record, until the retention sweep finds it; and
        # so does an image that was refused in an object that others need.
        with suppress(StorageUnavailableError):
            self._objects.delete_many(keys)


def _refused(outcome: Accepted | WastestreamError) -> bool:
    """Say whether Redis has said no. After any other error the jobs may be accepted, so their images stay."""
    if isinstance(outcome, WastestreamError):
        return isinstance(outcome, REFUSALS)
    return outcome.places is None  # Another request with the same key was faster.


def _bundles(uploads: Sequence[Upload]) -> list[list[int]]:
    """Return which uploads make one submission, by their numbers, so that one message asks for all of them.

    Those with a key or a limit of their own stand alone, and so do those that become too old: all of that is
    of a whole submission.
    """
    alone: list[list[int]] = []
    plain: list[int] = []
    for number, upload in enumerate(uploads):
        bound = upload.idempotency or upload.limit or upload.images[0].expires_ms is not None
        if bound or len(upload.images) > 1:
            alone.append([number])
        else:
            plain.append(number)
    return [*alone, plain] if plain else alone


def _parts(outcome: Accepted | WastestreamError, count: int) -> list[Accepted | WastestreamError]:
    """Return what the outcome of a bundle of single uploads means for each."""
    if isinstance(outcome, WastestreamError):
        return [outcome] * count
    places = outcome.places or []
    return [Accepted([job_id], [place]) for job_id, place in zip(outcome.ids, places, strict=True)]


def _fit(uploads: list[Upload]) -> int:
    """Return how many of these single uploads one object takes."""
    return len(split([len(upload.images[0].data) for upload in uploads])[0])


def _new_jobs(uploads: Sequence[Upload]) -> list[list[NewJob]]:
    """Return the jobs of each upload, with images that share objects as far as these reach."""
    images = [image for upload in uploads for image in upload.images]
    jobs: list[NewJob] = []
    for shard in split([len(image.data) for image in images]):
        ids = new_job_ids(len(shard))
        size = len(shard) if len(shard) > 1 else None
        jobs += [
            NewJob(
                id=job_id,
                camera=image.camera,
                format=image.format,
                size=len(image.data),
                captured_ms=image.captured_ms,
                expires_ms=image.expires_ms,
                shard_size=size,
            )
            for job_id, image in zip(ids, images[shard.start : shard.stop], strict=True)
        ]
    rest = iter(jobs)
    return [[next(rest) for _ in upload.images] for upload in uploads]
