"""Records of jobs: states, predictions, outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from core.shards import image_key

TOO_OLD: Final = "The image was older than its X-Max-Age before a worker reached it."
"""Error of an expired job."""


class JobState(StrEnum):
    """The state of a job. It leaves `QUEUED` once, for one of the others, and never changes again."""

    QUEUED = "queued"
    """Accepted; waits for a worker or is with one."""
    CLASSIFIED = "classified"
    """The model has classified the image."""
    FAILED = "failed"
    """The image cannot be classified; the job's error says why."""
    EXPIRED = "expired"
    """It became too old before a worker reached it."""
    CANCELLED = "cancelled"
    """A client cancelled it before a worker reached it."""

    @property
    def terminal(self) -> bool:
        """Whether a job in this state has settled."""
        return self is not JobState.QUEUED


@dataclass(frozen=True, slots=True)
class Prediction:
    """The model's answer for one image.

    `probability` is the calibrated probability of `label`, 0-1; `review` means too close to call.
    """

    label: str
    probability: float
    review: bool


@dataclass(frozen=True, slots=True)
class Job:
    """A job, from its making on. Times are milliseconds since 1970.

    `format`: of the image; empty for one in a shared object of a job that was recovered. `captured_ms`: when
    the image was taken, if the camera said. `expires_ms`: when it is too old to be classified, if ever.
    `shard`: the suffix of its shard (`core.shards`), empty for an image that is an object by itself. `owner`:
    id of the API key that sent it, empty without one; known once it was read from its record. `retry_of`: id
    of the job that it repeats, if it does.
    """

    id: str
    camera: str
    format: str
    size: int
    captured_ms: int | None = None
    expires_ms: int | None = None
    shard: str = ""
    state: JobState = JobState.QUEUED
    settled_ms: int | None = None
    prediction: Prediction | None = None
    model: str | None = None
    error: str | None = None
    owner: str = ""
    retry_of: str | None = None

    @property
    def image_key(self) -> str:
        """Key of the object that holds its image."""
        return image_key(self.id, self.camera, self.format, self.shard)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Terminal state for a job. `prediction` with `CLASSIFIED`, `error` (a sentence) with the others."""

    job_id: str
    state: JobState
    prediction: Prediction | None = None
    error: str | None = None
