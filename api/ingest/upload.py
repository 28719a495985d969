"""From a checked upload to its jobs. Single and bulk uploads share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.admission import Admission
from api.ingest.commit import Commits, Upload
from api.ingest.outcomes import count_accepted
from core.cost import is_huge
from core.disk import Disk
from core.errors import QueueFullError, RateLimitError, RedisFullError
from core.jobs import Job
from core.lanes import BULK
from core.redis.admission import Accepted, Rejection
from core.redis.eta import Place
from core.redis.job_store import JobStore
from core.redis.server import RedisServer

Outcome = Accepted | Rejection | RequestError
"""The jobs of an upload, or the error of that upload alone."""

Result = TypeVar("Result")


class Ingest:
    """Submits uploads. Safe to share between threads, not across a fork."""

    def __init__(self, jobs: JobStore, commits: Commits, server: RedisServer, disk: Disk) -> None:
        self._jobs = jobs
        self._commits = commits
        self._server = server
        self._disk = disk
        self._admission = Admission()

    def submit(self, upload: Upload) -> Accepted:
        """Store the images, then record and enqueue their jobs; all of them or none.

        A single image that is huge to decode goes with bulk uploads: other single ones must not wait for it.

        Returns:
            The jobs in the order of the images: new ones, or those that the same idempotency key made before.

        Raises:
            DiskFullError, StorageUnavailableError, RedisUnavailableError: nothing was accepted; try again. So
                while Redis is not fit (`core.redis.server`).
            QueueFullError: the queue is full; nothing was accepted.
            IdempotencyConflictError: the key was used for something else.
            RateLimitError: nothing is left of the limit; nothing was accepted.
            TooManyCamerasError: the camera is new, and as many are known as may be; nothing was accepted.
        """
        if any(is_huge(image.cost_ms) for image in upload.images):
            upload = replace(upload, lane=BULK)
        (known,) = self._admit([upload])
        committed = known or self._guarded(upload, lambda: self._commits.commit(upload))
        (outcome,) = self._read_known([committed], upload.lane)
        if not isinstance(outcome, Accepted):
            raise outcome
        return outcome

    def submit_call(self, uploads: Sequence[Upload]) -> list[Outcome]:
        """Submit the uploads of one bulk call as `submit` does, but each with its own outcome.

        Returns:
            The outcome of each, in order.

        Raises:
            QueueFullError, RateLimitError: none of them was accepted.
            DiskFullError, StorageUnavailableError, RedisUnavailableError: as `submit`.
        """
        outcomes = self._admit(uploads)
        new = [upload for upload, known in zip(uploads, outcomes, strict=True) if known is None]
        committed = iter(self._guarded(uploads[0], lambda: self._commit_call(new)) if new else ())
        decided = [next(committed) if known is None else known for known in outcomes]
        return self._read_known(decided, uploads[0].lane)

    def existing(self, ids: Sequence[str]) -> Accepted:
        """Return the jobs that an idempotency key made before.

        Raises:
            RequestError: 422, the record of one has expired.
        """
        (outcome,) = self._read_known([Accepted(known=ids)])
        if not isinstance(outcome, Accepted):
            raise outcome
        return outcome

    def _admit(self, uploads: Sequence[Upload]) -> list[Accepted | Rejection | None]:
        """Return the outcomes of uploads of one client and lane that are known; None for new uploads.

        Raises as `submit`.
        """
        self._disk.check()
        self._admission.check_limit(uploads[0].limit)
        self._server.check()
        used = [upload.idempotency for upload in uploads if upload.idempotency is not None]
        if not used:
            self._admission.check_lane(uploads[0].lane)
            return [None] * len(uploads)
        images = sum(len(upload.images) for upload in uploads)
        outcomes = iter(self._jobs.admit(used, uploads[0].lane, images))
        return [None if upload.idempotency is None else next(outcomes) for upload in uploads]

    def _commit_call(self, uploads: Sequence[Upload]) -> list[Accepted | Rejection]:
        """Accept new uploads of one call; raise if the queue, or the rate limit, has no room for them."""
        outcomes = self._commits.commit_call(uploads)
        if any(isinstance(outcome, Accepted) and outcome.jobs for outcome in outcomes):
            return outcomes
        rejections = (outcome for outcome in outcomes if isinstance(outcome, QueueFullError | RateLimitError))
        rejection = next(rejections, None)
        try:
            if rejection is not None:
                raise rejection
            return outcomes
        finally:
            del (
                outcomes,
                rejections,
                rejection,
            )  # as in `api.ingest.group_commit`: an error must not hold itself

    def _guarded(self, upload: Upload, commit: Callable[[], Result]) -> Result:
        """Commit uploads of this one's client and lane; remember it if they are rejected."""
        try:
            return commit()
        except RateLimitError as error:
            self._admission.limit_used_up(upload.limit, error.retry_after)
            raise
        except (QueueFullError, RedisFullError) as error:
            self._admission.shed(upload.lane, error)
            raise

    def _read_known(self, outcomes: Sequence[Accepted | Rejection], lane: str = "") -> list[Outcome]:
        """Return the outcomes, with the jobs of known uploads; count those that were sent to a lane."""
        if lane:
            for outcome in outcomes:
                if isinstance(outcome, Accepted):
                    count_accepted(lane, outcome)
        ids = [job_id for outcome in outcomes if isinstance(outcome, Accepted) for job_id in outcome.known]
        if not ids:
            return list(outcomes)
        records = zip(self._jobs.read_many(ids), self._jobs.places(ids), strict=True)
        by_id = dict(zip(ids, records, strict=True))
        return [
            _existing([by_id[job_id] for job_id in outcome.known])
            if isinstance(outcome, Accepted) and outcome.known
            else outcome
            for outcome in outcomes
        ]


def _existing(records: Sequence[tuple[Job | None, Place | None]]) -> Accepted | RequestError:
    """Return the jobs of an idempotency key, or the error that a record has expired."""
    jobs = [job for job, _ in records if job is not None]
    if len(jobs) == len(records):
        return Accepted(jobs, [place for _, place in records])
    return RequestError(
        ProblemType.IDEMPOTENCY_CONFLICT,
        "The idempotency key belongs to an upload whose record has expired; use a new key.",
    )
