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

Outcome = Accepted | WastestreamError
"""What became of a submission (`core.ledger.JobStore.accept_many`)."""


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


class _Draft:
    """An upload with the jobs that it asks for."""

    def __init__(self, upload: Upload, jobs: list[NewJob]) -> None:
        self.upload = upload
        self.jobs = jobs
        self.keys = [job.image_key for job in jobs]

    @property
    def name(self) -> str:
        return self.jobs[0].id

    @property
    def plain(self) -> bool:
        """Whether nothing is said of it that cannot be said of several uploads at once."""
        upload = self.upload
        bound = upload.idempotency or upload.limit or self.jobs[0].expires_ms is not None
        return len(self.jobs) == 1 and not bound


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
        drafts = _drafts(uploads)
        self._store(drafts)
        outcomes = self._accept(drafts)
        self._discard_refused(drafts, outcomes)
        return [
            outcome if isinstance(outcome, WastestreamError) else Committed(draft.jobs, outcome)
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

    def _accept(self, drafts: Sequence[_Draft]) -> list[Outcome]:
        """Submit in bundles, and what is refused as a bundle, one by one."""
        bundles = _bundles(drafts)
        outcomes: dict[str, Outcome] = {}
        refused: list[_Draft] = []
        for bundle, outcome in zip(bundles, self._submit(bundles), strict=True):
            if len(bundle) > 1 and isinstance(outcome, REFUSALS):
                refused += bundle
            else:
                outcomes |= _parts(bundle, outcome)
        if refused:
            again = self._submit([[draft] for draft in refused])
            outcomes |= {draft.name: outcome for draft, outcome in zip(refused, again, strict=True)}
        return [outcomes[draft.name] for draft in drafts]

    def _submit(self, bundles: Sequence[Sequence[_Draft]]) -> list[Outcome]:
        """Have each bundle accepted all or nothing, with a message for each object of its images."""
        submissions = []
        for bundle in bundles:
            first, keys = bundle[0], [key for draft in bundle for key in draft.keys]
            lane, expires_ms = first.upload.lane, first.jobs[0].expires_ms
            submissions.append(
                Submission(
                    jobs=[job for draft in bundle for job in draft.jobs],
                    lane=lane,
                    queue=QUEUES[lane],
                    messages=self._envelope.messages(keys, lane, expires_ms),
                    idempotency=first.upload.idempotency,
                    limit=first.upload.limit,
                )
            )
        return self._jobs.accept_many(submissions)

    def _discard_refused(self, drafts: Sequence[_Draft], outcomes: Sequence[Outcome]) -> None:
        """Remove the objects of which no image can belong to a job."""
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


def _refused(outcome: Outcome) -> bool:
    """Say whether Redis has said no. After any other error the jobs may be accepted, so their images stay."""
    if isinstance(outcome, WastestreamError):
        return isinstance(outcome, REFUSALS)
    return outcome.places is None  # Another request with the same key was faster.


def _bundles(drafts: Sequence[_Draft]) -> list[list[_Draft]]:
    """Return which uploads make one submission, so that one message asks for all of them.

    Those with an idempotency key, a limit or a time to expire stand alone: all of that is of a submission.
    """
    plain = [draft for draft in drafts if draft.plain]
    alone = [[draft] for draft in drafts if not draft.plain]
    return [*alone, plain] if plain else alone


def _parts(bundle: Sequence[_Draft], outcome: Accepted | WastestreamError) -> dict[str, Outcome]:
    """Return what the outcome of a bundle means for each of its uploads, by name."""
    if len(bundle) == 1 or isinstance(outcome, WastestreamError):
        return {draft.name: outcome for draft in bundle}
    places = outcome.places or []
    return {
        draft.name: Accepted([job_id], [place])
        for draft, job_id, place in zip(bundle, outcome.ids, places, strict=True)
    }


def _fit(uploads: list[Upload]) -> int:
    """Return how many of these single uploads one object takes."""
    return len(split([len(upload.images[0].data) for upload in uploads])[0])


def _drafts(uploads: Sequence[Upload]) -> list[_Draft]:
    """Make the jobs of each upload, with images that share objects as far as they fit."""
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
    return [_Draft(upload, [next(rest) for _ in upload.images]) for upload in uploads]
