"""From an upload to its answer: check, commit, learn from refusals. Single and bulk uploads share it."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final

from werkzeug.datastructures import Headers

from api.commit import Image, Upload
from api.problems import RequestError
from api.services import Services
from core.cameras import CAMERA_RULE, DEFAULT_CAMERA, is_camera_id
from core.drain import Place
from core.errors import LedgerFullError, QueueFullError, RateLimitError
from core.headers import MAX_BYTES, MEDIA_TYPES, ImageBytes, read_header
from core.jobs import Job, queued
from core.ledger import Accepted, Idempotency, RateLimit

MOST_MAX_AGE: Final = 7 * 24 * 3600
"""Longest `X-Max-Age`, seconds."""

_CLOCK_SKEW_SECONDS: Final = 300
_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ANY_TYPE: Final = {"", "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Origin:
    """What the headers say of an upload. `captured_ms`: ms since 1970. `max_age_ms`: a duration."""

    camera: str
    captured_ms: int | None
    max_age_ms: int | None
    idempotency_key: str | None

    @property
    def expires_ms(self) -> int | None:
        """When the images become too old, ms since 1970: counted from their capture, or else from now."""
        if self.max_age_ms is None:
            return None
        since = time.time_ns() // 1_000_000 if self.captured_ms is None else self.captured_ms
        return since + self.max_age_ms


@dataclass(frozen=True, slots=True)
class Checked:
    """An image whose header was read and found good; `format` is a key of `MEDIA_TYPES`."""

    data: ImageBytes
    format: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """A job that an upload stands for, and its place in the queue unless it has settled."""

    job: Job
    place: Place | None

    def to_json(self) -> dict[str, Any]:
        """Return it as the API shows it."""
        return {**self.job.to_json(), "queue": self.place and self.place.to_json()}


def read_origin(headers: Headers) -> Origin:
    """Read `X-Camera-Id`, `X-Captured-At`, `X-Max-Age` and `Idempotency-Key`.

    Raises:
        RequestError: 400 for one that is malformed, 422 for a time in the future or before 1970.
    """
    camera = headers.get("X-Camera-Id", DEFAULT_CAMERA)
    if not is_camera_id(camera):
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"X-Camera-Id {camera[:80]!r} cannot be a camera's id: {CAMERA_RULE}.",
        )
    key = headers.get("Idempotency-Key")
    if key is not None and not _KEY_PATTERN.fullmatch(key):
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            "Idempotency-Key must be 1 to 128 visible ASCII characters; a UUID is good.",
        )
    return Origin(
        camera, _captured_ms(headers.get("X-Captured-At")), _max_age_ms(headers.get("X-Max-Age")), key
    )


def check(data: ImageBytes, media_type: str, *, any_type: bool = False) -> Checked:
    """Check one image by its bytes' beginning, without decoding it.

    Args:
        data: the bytes sent.
        media_type: the type that the client declared.
        any_type: whether declaring none, or `application/octet-stream`, will do.

    Raises:
        RequestError: 400 empty, 413 too many bytes, 415 not an image type or not the one declared.
        ImageError: as `core.headers.read_header`.
    """
    if not data:
        raise RequestError(HTTPStatus.BAD_REQUEST, "The image is empty; send its bytes.")
    if len(data) > MAX_BYTES:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).",
        )
    undeclared = any_type and media_type in _ANY_TYPE
    if not undeclared and media_type not in MEDIA_TYPES.values():
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type {media_type[:80]!r} is not an image type that can be classified; "
            f"send {', '.join(MEDIA_TYPES.values())}.",
        )
    header = read_header(data)
    if not undeclared and header.media_type != media_type:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type says {media_type}, but the bytes are {header.media_type}; declare what is sent.",
        )
    return Checked(data, header.format)


def idempotency_of(origin: Origin, parts: Iterable[tuple[str, ImageBytes]], owner: str) -> Idempotency | None:
    """Return the idempotency key of an upload with a digest of all that must be the same if it is repeated.

    Args:
        origin: what the headers said.
        parts: media type as declared, and bytes, of everything sent, good or not.
        owner: the client's id, since two clients may choose the same key.
    """
    if origin.idempotency_key is None:
        return None
    whole = _digest(origin.camera.encode())
    for media_type, data in parts:
        whole.update(_digest(media_type.encode()).digest() + _digest(data).digest())
    return Idempotency(origin.idempotency_key, whole.hexdigest(), owner)


def _digest(data: ImageBytes) -> hashlib.blake2b:
    return hashlib.blake2b(data, digest_size=16)


def submit(
    services: Services,
    images: Sequence[Checked],
    origin: Origin,
    lane: str,
    *,
    limit: RateLimit | None,
    idempotency: Idempotency | None,
) -> tuple[list[Submitted], Accepted]:
    """Store the images, then record and enqueue their jobs; all of them or none.

    Args:
        services: where to.
        images: at least one.
        origin: what the headers said.
        lane: one of `core.lanes.LANES`.
        limit: what the client may send.
        idempotency: from `idempotency_of`.

    Returns:
        The jobs in the order of `images`: new ones, or those that the same key made before; and what the
        ledger said.

    Raises:
        DiskFullError, StorageUnavailableError, LedgerUnavailableError: nothing was accepted; try again.
        QueueFullError: as many jobs wait as may; nothing was accepted.
        IdempotencyConflictError: the key was used for something else.
        RateLimitError: nothing is left of the limit; nothing was accepted.
        TooManyCamerasError: the camera is new, and there are as many as may be; nothing was accepted.
    """
    services.disk.check()
    services.throttle.check(limit)
    if idempotency is None:
        services.gate.check(lane)
    elif known := services.jobs.admit(len(images), lane, idempotency, origin.camera):
        return _existing(services, known), Accepted(known)
    try:
        committed = services.commits.commit(_upload(images, origin, lane, limit, idempotency))
    except RateLimitError as error:
        services.throttle.learn(limit, error.retry_after)
        raise
    except (QueueFullError, LedgerFullError) as error:
        services.gate.shut(lane, error)
        raise
    accepted = committed.accepted
    if accepted.places is None:
        return _existing(services, accepted.ids), accepted
    places = zip(committed.jobs, accepted.places, strict=True)
    return [Submitted(queued(job), place) for job, place in places], accepted


def _upload(
    images: Sequence[Checked],
    origin: Origin,
    lane: str,
    limit: RateLimit | None,
    idempotency: Idempotency | None,
) -> Upload:
    expires_ms = origin.expires_ms
    made = [
        Image(image.data, image.format, origin.camera, origin.captured_ms, expires_ms) for image in images
    ]
    return Upload(made, lane, idempotency, limit)


def _existing(services: Services, ids: Sequence[str]) -> list[Submitted]:
    jobs = services.jobs.read_many(ids)
    found = [job for job in jobs if job is not None]
    if len(found) != len(ids):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The idempotency key belongs to an upload whose record has expired; use a new key.",
        )
    return [Submitted(job, place) for job, place in zip(found, services.jobs.places(ids), strict=True)]


def _captured_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"X-Captured-At {text[:80]!r} is not a time with its zone; "
            "send RFC 3339, such as 2026-01-31T08:15:00Z.",
        )
    if moment.timestamp() < 0:  # where clocks that lost their time begin; nothing was photographed before
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies before 1970 (UTC); set the camera's clock, or leave it out.",
        )
    if (moment - datetime.now(UTC)).total_seconds() > _CLOCK_SKEW_SECONDS:
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies in the future; set the camera's clock, or leave the header out.",
        )
    return round(moment.timestamp() * 1000)


def _max_age_ms(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= MOST_MAX_AGE:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"X-Max-Age {text[:80]!r} must be seconds above 0 and up to {MOST_MAX_AGE:,} (7 days).",
        )
    return math.ceil(seconds * 1000)
