"""Jobs: their states, their ids, their records."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from ulid import ULID

from core.manifest import Prediction

_CROCKFORD: Final = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "abcdefghijklmnopqrstuv")
"""Digits of Crockford's base 32, as ULIDs have them, to those that `int` takes."""

_DIGITS: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's, in order

_ID_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")  # Crockford's base 32, 128 bits

_OBJECT_PARTS: Final = 6  # of an object's key: images, camera, year, month, day, name; see `image_key`

_OWN_OBJECT: Final = re.compile(rf"({_ID_PATTERN.pattern})\.(?!tar$)[a-z]+")
_SHARED_OBJECT: Final = re.compile(r"([0-7][0-9A-HJKMNP-TV-Z]{24}0)-([2-9]|[12][0-9]|3[0-2])\.tar")


class JobState(StrEnum):
    """Where a job is. It leaves `QUEUED` once, for one of the others, and never changes again."""

    QUEUED = "queued"
    """Accepted; waits for a worker or is with one."""
    CLASSIFIED = "classified"
    """The model said what the image shows."""
    FAILED = "failed"
    """The image cannot be classified; the job's error says why."""
    EXPIRED = "expired"
    """It became too old before a worker reached it."""
    CANCELLED = "cancelled"
    """Someone withdrew it before a worker reached it."""

    @property
    def terminal(self) -> bool:
        """Whether a job in this state has settled."""
        return self is not JobState.QUEUED


IMAGES: Final = "images"
"""Folder of the bucket that holds the images."""

SHARED: Final = f"{IMAGES}/_shared"
"""Folder of the objects that hold several images, of any cameras: no camera's id begins with `_`."""

ARCHIVE: Final = ".tar"
"""How the names of objects end that hold several images (`core.shards`)."""

TOO_OLD: Final = "The image was older than its X-Max-Age before a worker reached it."
"""Why a job expired, for the person who asks."""


def new_job_id() -> str:
    """Return a new id: a ULID, so ids sort by the time they were made."""
    return str(ULID())


def new_job_ids(count: int) -> list[str]:
    """Return `count` ids, at most 32, that differ in their last digit only, which counts from 0.

    Images that share an object have such ids, so that its name tells them all (`job_ids_in`).
    """
    if count > len(_DIGITS):
        raise ValueError(f"{count} ids cannot differ in one digit only.")
    # The randomness is not `ULID()`'s, which counts up within a millisecond: two rows would be one.
    first = ULID((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    return _row(str(first), count)


def is_job_id(text: str) -> bool:
    """Return whether `text` could be a job's id."""
    return _ID_PATTERN.fullmatch(text) is not None


def accepted_ms(job_id: str) -> int:
    """Return when the job with this id was made, milliseconds since 1970."""
    # Its first ten digits; python-ulid takes 17 us for this, and every image needs it several times.
    return int(job_id[:10].translate(_CROCKFORD), 32)


@dataclass(frozen=True, slots=True)
class NewJob:
    """An image about to be accepted.

    `captured_ms`: when it was taken, if the camera said. `expires_ms`: when it is too old to be classified,
    if ever. Both ms since 1970. `shard_size`: how many images share the object that holds it, if any do.
    """

    id: str
    camera: str
    format: str
    size: int
    captured_ms: int | None = None
    expires_ms: int | None = None
    shard_size: int | None = None

    @property
    def image_key(self) -> str:
        """Where its image is stored."""
        return image_key(self.id, self.camera, self.format, self.shard_size)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job is to settle. `prediction` with `CLASSIFIED`, `error` (a sentence) with the other states."""

    job_id: str
    state: JobState
    prediction: Prediction | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Times are milliseconds since 1970; `shard_size` as of `NewJob`."""

    id: str
    state: JobState
    camera: str
    format: str
    size: int
    shard_size: int | None
    captured_ms: int | None
    expires_ms: int | None
    settled_ms: int | None
    prediction: Prediction | None
    model: str | None
    error: str | None

    @property
    def image_key(self) -> str:
        """Where its image is stored."""
        return image_key(self.id, self.camera, self.format, self.shard_size)

    def to_json(self) -> dict[str, Any]:
        """Return the job as the API shows it."""
        return {
            "id": self.id,
            "state": self.state.value,
            "camera": self.camera,
            "captured_at": timestamp(self.captured_ms),
            "accepted_at": timestamp(accepted_ms(self.id)),
            "expires_at": timestamp(self.expires_ms),
            "settled_at": timestamp(self.settled_ms),
            "prediction": None if self.prediction is None else self._prediction_json(self.prediction),
            "error": self.error,
        }

    def _prediction_json(self, prediction: Prediction) -> dict[str, Any]:
        return {
            "label": prediction.label,
            "probability": round(prediction.probability, 6),
            "review": prediction.review,
            "model": self.model,
        }


def queued(new: NewJob) -> Job:
    """Return the job that accepting `new` makes."""
    return Job(
        id=new.id,
        state=JobState.QUEUED,
        camera=new.camera,
        format=new.format,
        size=new.size,
        shard_size=new.shard_size,
        captured_ms=new.captured_ms,
        expires_ms=new.expires_ms,
        settled_ms=None,
        prediction=None,
        model=None,
        error=None,
    )


def image_key(job_id: str, camera: str, image_format: str, shard_size: int | None = None) -> str:
    """Return where an image is stored: in which object, and in a shared one, under which name.

    An image of its own: `images/{camera}/{yyyy}/{mm}/{dd}/{job}.{format}`, the day in UTC. One of several:
    `images/_shared/{yyyy}/{mm}/{dd}/{first job}-{number}.tar/{camera}/{job}.{format}`.
    """
    day = f"{datetime.fromtimestamp(accepted_ms(job_id) / 1000, UTC):%Y/%m/%d}"
    name = f"{job_id}.{image_format}"
    if shard_size is None:
        return f"{IMAGES}/{camera}/{day}/{name}"
    return f"{SHARED}/{day}/{job_id[:-1]}{_DIGITS[0]}-{shard_size}{ARCHIVE}/{camera}/{name}"


def object_key(key: str) -> str:
    """Return the object that holds the image at an `image_key`; of an object's own key that key."""
    return "/".join(key.split("/", _OBJECT_PARTS)[:_OBJECT_PARTS])


def job_id_of(key: str) -> str:
    """Return the id of the job whose image is stored at `key`; the inverse of `image_key`."""
    return key.rsplit("/", 1)[-1].partition(".")[0]


def job_ids_in(key: str) -> list[str]:
    """Return the ids of the jobs whose images are in the object `key`; none if it is none of ours."""
    name = key.rsplit("/", 1)[-1]
    if own := _OWN_OBJECT.fullmatch(name):
        return [own[1]]
    shared = _SHARED_OBJECT.fullmatch(name)
    return _row(shared[1], int(shared[2])) if shared else []


def _row(first: str, count: int) -> list[str]:
    return [first[:-1] + digit for digit in _DIGITS[:count]]


def timestamp(milliseconds: int | None) -> str | None:
    """Return RFC 3339 text in UTC, to the millisecond."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
