"""Records and errors of `JobStore.accept_many` and `admit`: submissions, limits, idempotency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IdempotencyConflictError, QueueFullError, RateLimitError, TooManyCamerasError
from core.hours import hour_of
from core.ids import accepted_ms
from core.jobs import Job
from core.lanes import max_queued_for
from core.redis import keys
from core.redis.eta import Place, QueueState

MAX_RETRY_AFTER: Final = 60.0
UNKNOWN_RETRY_AFTER: Final = 5.0
"""Retry-After for a full queue, seconds: cap, and default while the service rate is unknown."""

_FREE_SHARE: Final = 100
"""Share of the queue, one place in so many, to be free when rejected clients come back."""


@dataclass(frozen=True, slots=True)
class Idempotency:
    """Idempotency key of an upload, and a digest of the upload.

    `owner`: id of the client's API key, since two clients may choose the same idempotency key. `cameras`: the
    camera of each image sent with it.
    """

    key: str
    digest: str
    owner: str = ""
    cameras: Sequence[str] = ()

    @property
    def redis_key(self) -> str:
        """Redis key of the upload that used it."""
        return keys.idempotency(self.owner, self.key)

    def known_ids(self, value: str) -> list[str]:
        """Return the ids of the jobs that were accepted with it, given the value of `redis_key`.

        Raises:
            IdempotencyConflictError: it was used with other bytes.
        """
        digest, *ids = value.split(" ")
        if digest != self.digest:
            raise IdempotencyConflictError(
                f"The idempotency key {self.key!r} was used with other bytes, another media type or "
                "another camera; use a new key for a new image."
            )
        return ids


@dataclass(frozen=True, slots=True)
class RateLimit:
    """An allowance of `burst` images that grows by `rate` a second; `name` is the API key's id."""

    name: str
    rate: float
    burst: int


@dataclass(frozen=True, slots=True)
class Submission:
    """Jobs that are accepted all or none, such as an upload's; their images must be stored already.

    A job that repeats an earlier one is the only one of its submission.

    `jobs`: at least one. `idempotency`: key of the whole, if the client gave one. `limit`: the client's rate
    limit; a submission is taken while one image is left, and may overdraw it. `owner`: id of the client's
    API key, empty without one.
    """

    jobs: Sequence[Job]
    idempotency: Idempotency | None = None
    limit: RateLimit | None = None
    owner: str = ""

    def arguments(self) -> list[str | int]:
        """Return the submission's arguments of `accept.lua`."""
        used = self.idempotency
        value = " ".join([used.digest, *(job.id for job in self.jobs)]) if used else ""
        rate = f"{self.limit.name} {self.limit.rate} {self.limit.burst}" if self.limit else ""
        arguments: list[str | int] = [value, rate, self.owner, self.jobs[0].retry_of or "", len(self.jobs)]
        for job in self.jobs:
            arguments += [job.id, hour_of(accepted_ms(job.id)), job.camera, job.format, job.size]
            arguments += ["" if ms is None else ms for ms in (job.captured_ms, job.expires_ms)]
            arguments.append(job.shard)
        return arguments


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that was accepted, now or before.

    `jobs`: its jobs, and their `places` in the queue, None for one that has settled. `known`: ids of the jobs
    accepted earlier under the same idempotency key, which stand for it instead. If it was taken from a rate
    limit, `left` images may follow at once, and in `whole_in` seconds the limit is whole again.
    """

    jobs: Sequence[Job] = ()
    places: Sequence[Place | None] = ()
    known: Sequence[str] = ()
    left: int | None = None
    whole_in: float | None = None

    @property
    def ids(self) -> list[str]:
        """Ids of the jobs that stand for the submission."""
        return list(self.known) or [job.id for job in self.jobs]


Rejection = IdempotencyConflictError | QueueFullError | RateLimitError | TooManyCamerasError
"""Reason for the rejection of a submission."""


def queue_full(state: QueueState, lane: str, images: int, max_queued: int) -> QueueFullError:
    """Return the error of a full queue, with the estimated time until it has places."""
    bound = max_queued_for(lane, max_queued)
    seconds = state.seconds_for(state.total + images - bound + max_queued // _FREE_SHARE)
    retry_after = UNKNOWN_RETRY_AFTER if seconds is None else max(1.0, min(MAX_RETRY_AFTER, seconds))
    paused = f" The operator has paused {' and '.join(sorted(state.paused))} jobs." if state.paused else ""
    return QueueFullError(
        f"The queue is full: {state.total:,} images wait, and {lane} uploads are taken up to {bound:,}."
        f"{paused} Nothing of this call was accepted; send it again in {retry_after:.0f} s.",
        retry_after,
    )
