"""Jobs: their states, their ids, their records."""

from __future__ import annotations

import hashlib
import os
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final

from ulid import ULID

from core.model.manifest import Prediction

_CROCKFORD: Final = str.maketrans("ABCDEFGHJKMNPQRSTVWXYZ", "abcdefghijklmnopqrstuv")
"""Digits of Crockford's base 32, as ULIDs have them, to those that `int` takes."""

_DIGITS: Final = bytes(b"0123456789ABCDEFGHJKMNPQRSTVWXYZ"[byte % 32] for byte in range(256))
"""Crockford's digit for each byte: of random bytes, which have 8 bits, it takes 5."""

_TIME_DIGITS: Final = 10  # of an id, at its beginning
_RANDOM_DIGITS: Final = 16  # of an id, behind those: 80 bits

_ID_PATTERN: Final = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}")  # Crockford's base 32, 128 bits

_OBJECT_PARTS: Final = 6  # of an object's key: images, camera, year, month, day, name; see `image_key`

_OWN_OBJECT: Final = re.compile(rf"({_ID_PATTERN.pattern})\.(?!tar$)[a-z]+")
_SHARD_NAME: Final = re.compile(rf"({_ID_PATTERN.pattern})-([2-9]|[1-9][0-9])")


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
    """Return a new id: a ULID, so ids sort by the time they were made, to the millisecond."""
    # The randomness is not `ULID()`'s, which counts up within a millisecond: one id would tell the next.
    return str(ULID((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10)))


def is_job_id(text: str) -> bool:
    """Return whether `text` could be a job's id."""
    return _ID_PATTERN.fullmatch(text) is not None


def accepted_ms(job_id: str) -> int:
    """Return when the job with this id was made, milliseconds since 1970."""
    # Its first ten digits; python-ulid takes 17 us for this, and every image needs it several times.
    return int(job_id[:_TIME_DIGITS].translate(_CROCKFORD), 32)


@dataclass(frozen=True, slots=True)
class Shard:
    """The jobs, two or more, whose images share one stored object.

    Its id, a ULID, tells its jobs' ids: they have its time, and behind it digits of a hash of it. So the name
    of the object tells all its jobs, and no job's id tells another's. Clients never learn a shard's id.
    """

    id: str
    count: int

    @classmethod
    def new(cls, count: int) -> Shard:
        """Return a shard for so many new jobs."""
        return cls(new_job_id(), count)

    @classmethod
    def named(cls, name: str) -> Shard | None:
        """Return the shard with this name, None if it is no shard's name."""
        parts = _SHARD_NAME.fullmatch(name)
        return cls(parts[1], int(parts[2])) if parts else None

    @classmethod
    def of(cls, job_id: str, suffix: str) -> Shard | None:
        """Return the shard of a job, given the shard's `suffix`."""
        return cls.named(job_id[:_TIME_DIGITS] + suffix)

    @property
    def name(self) -> str:
        """Its id and its number of jobs, as one word."""
        return f"{self.id}-{self.count}"

    @property
    def suffix(self) -> str:
        """Its name without the time, which each of its jobs' ids begins with: what their records keep."""
        return self.name[_TIME_DIGITS:]

    @property
    def job_ids(self) -> list[str]:
        """Ids of its jobs, in the order of their images."""
        # One hash as long as all ids together: sixteen take as long as one ULID.
        length = self.count * _RANDOM_DIGITS
        digits = hashlib.shake_128(self.id.encode()).digest(length).translate(_DIGITS).decode()
        time_digits = self.id[:_TIME_DIGITS]
        return [time_digits + digits[at : at + _RANDOM_DIGITS] for at in range(0, length, _RANDOM_DIGITS)]


@dataclass(frozen=True, slots=True)
class NewJob:
    """An image about to be accepted.

    `captured_ms`: when it was taken, if the camera said. `expires_ms`: when it is too old to be classified,
    if ever. Both ms since 1970. `shard`: with which its image shares an object, if it does.
    """

    id: str
    camera: str
    format: str
    size: int
    captured_ms: int | None = None
    expires_ms: int | None = None
    shard: Shard | None = None

    @property
    def image_key(self) -> str:
        """Where its image is stored."""
        return image_key(self.id, self.camera, self.format, self.shard)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job is to settle. `prediction` with `CLASSIFIED`, `error` (a sentence) with the other states."""

    job_id: str
    state: JobState
    prediction: Prediction | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it stands. Times are milliseconds since 1970; `shard` as of `NewJob`."""

    id: str
    state: JobState
    camera: str
    format: str
    size: int
    shard: Shard | None
    captured_ms: int | None
    expires_ms: int | None
    settled_ms: int | None
    prediction: Prediction | None
    model: str | None
    error: str | None

    @property
    def image_key(self) -> str:
        """Where its image is stored."""
        return image_key(self.id, self.camera, self.format, self.shard)

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
        shard=new.shard,
        captured_ms=new.captured_ms,
        expires_ms=new.expires_ms,
        settled_ms=None,
        prediction=None,
        model=None,
        error=None,
    )


def image_key(job_id: str, camera: str, image_format: str, shard: Shard | None = None) -> str:
    """Return where an image is stored: in which object, and in a shared one, under which name.

    An image of its own: `images/{camera}/{yyyy}/{mm}/{dd}/{job}.{format}`, the day in UTC. One of several:
    `images/_shared/{yyyy}/{mm}/{dd}/{shard}-{number of jobs}.tar/{camera}/{job}.{format}`.
    """
    day = f"{datetime.fromtimestamp(accepted_ms(job_id) / 1000, UTC):%Y/%m/%d}"
    name = f"{job_id}.{image_format}"
    if shard is None:
        return f"{IMAGES}/{camera}/{day}/{name}"
    return f"{SHARED}/{day}/{shard.name}{ARCHIVE}/{camera}/{name}"


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
    shard = Shard.named(name.removesuffix(ARCHIVE)) if name.endswith(ARCHIVE) else None
    return shard.job_ids if shard else []


def timestamp(milliseconds: int | None) -> str | None:
    """Return RFC 3339 text in UTC, to the millisecond."""
    if milliseconds is None:
        return None
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
