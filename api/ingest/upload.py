"""From a checked upload to its jobs. Single and bulk uploads share it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.ingest.admission import Admission
from api.ingest.commit import Commits, Upload
from core.cost import is_huge
from core.disk import Disk
from core.errors import QueueFullError, RateLimitError, RedisFullError
from core.lanes import BULK
from core.redis.admission import Accepted
from core.redis.job_store import JobStore
from core.redis.server import RedisServer


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
        self._disk.check()
        if any(is_huge(image.cost_ms) for image in upload.images):
            upload = replace(upload, lane=BULK)
        self._admission.check_limit(upload.limit)
        self._server.check()
        if upload.idempotency is None:
            self._admission.check_lane(upload.lane)
        elif known := self._jobs.admit(
            len(upload.images), upload.lane, upload.idempotency, upload.origin.camera
        ):
            return self.existing(known)
        try:
            accepted = self._commits.commit(upload)
        except RateLimitError as error:
            self._admission.limit_used_up(upload.limit, error.retry_after)
            raise
        except (QueueFullError, RedisFullError) as error:
            self._admission.shed(upload.lane, error)
            raise
        return self.existing(accepted.known) if accepted.known else accepted

    def existing(self, ids: Sequence[str]) -> Accepted:
        """Return the jobs that an idempotency key made before.

        Raises:
            RequestError: 422, the record of one has expired.
        """
        jobs = [job for job in self._jobs.read_many(ids) if job is not None]
        if len(jobs) != len(ids):
            raise RequestError(
                ProblemType.IDEMPOTENCY_CONFLICT,
                "The idempotency key belongs to an upload whose record has expired; use a new key.",
            )
        return Accepted(jobs, self._jobs.places(ids))
