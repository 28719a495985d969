"""From an upload to its answer: check, commit, learn from refusals. Single and bulk uploads share it."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from werkzeug.datastructures import Headers

from api.http.problems import RequestError
from api.http.timestamps import captured_ms, parse_number
from api.ingest.commit import Image, Upload
from api.services import Services
from core import lanes
from core.cameras import DEFAULT_CAMERA, camera_id_in_header
from core.cost import decode_ms, is_huge
from core.errors import QueueFullError, RateLimitError, RedisFullError
from core.formats.layout import ImageBytes
from core.image_header import MAX_BYTES, read_header
from core.jobs import Job, queued
from core.redis.eta import Place
from core.redis.job_store import Accepted, Idempotency, RateLimit

MAX_AGE_SECONDS: Final = 7 * 24 * 3600
"""Longest `X-Max-Age`, seconds."""

_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ALIASES: Final = {
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "image/jfif": "image/jpeg",
    "image/x-jpeg": "image/jpeg",
    "image/x-jpg": "image/jpeg",
    "image/x-png": "image/png",
    "image/apng": "image/png",
    "image/x-webp": "image/webp",
}
"""Other names of the image types, as cameras and old browsers write them."""


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
    """An image whose header was read and found good.

    `format` is a key of `MEDIA_TYPES`; `cost_ms` is what it costs to decode (`core.cost`).
    """

    data: ImageBytes
    format: str
    cost_ms: int


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
        CameraIdError: `X-Camera-Id` cannot be a camera's id.
        RequestError: 400 for another that is malformed, 422 for a time in the future or before 1970.
    """
    camera = camera_id_in_header(headers.get("X-Camera-Id", DEFAULT_CAMERA))
    key = headers.get("Idempotency-Key")
    if key is not None and not _KEY_PATTERN.fullmatch(key):
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            "Idempotency-Key must be 1 to 128 visible ASCII characters; a UUID is good.",
        )
    return Origin(
        camera, captured_ms(headers.get("X-Captured-At")), _max_age_ms(headers.get("X-Max-Age")), key
    )


def check(data: ImageBytes, media_type: str) -> Checked:
    """Check one image by its bytes' beginning, without decoding it.

    The bytes tell what an image is. A declared type only refuses another image type: cameras declare
    `application/octet-stream`, nothing, or what their HTTP library adds by itself.

    Args:
        data: the bytes sent.
        media_type: the type that the client declared, empty if none.

    Raises:
        RequestError: 400 empty, 413 too many bytes, 415 another image type than the one declared.
        ImageError: as `core.image_header.read_header`.
    """
    if not data:
        raise RequestError(HTTPStatus.BAD_REQUEST, "The image is empty; send its bytes.")
    if len(data) > MAX_BYTES:
        raise RequestError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).",
        )
    header = read_header(data)
    if media_type != header.media_type and _is_other_image(media_type, header.media_type):
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type says {media_type[:80]}, but the bytes are {header.media_type}; "
            "declare what is sent, or application/octet-stream.",
        )
    return Checked(data, header.format, decode_ms(header, len(data)))


def _is_other_image(media_type: str, actual: str) -> bool:
    """Return whether a media type, as a client wrote it, names an image type that is not the actual one."""
    name = media_type.partition(";")[0].strip().lower()
    return name.startswith("image/") and name != "image/*" and _ALIASES.get(name, name) != actual


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
    owner: str,
    limit: RateLimit | None,
    idempotency: Idempotency | None,
) -> tuple[list[Submitted], Accepted]:
    """Store the images, then record and enqueue their jobs; all of them or none.

    Args:
        services: where to.
        images: at least one.
        origin: what the headers said.
        lane: one of `core.lanes.LANES`. A single image that is huge to decode goes with bulk uploads all the
            same: other single ones must not wait for it.
        owner: the client's id, by which it may cancel the jobs.
        limit: what the client may send.
        idempotency: from `idempotency_of`.

    Returns:
        The jobs in the order of `images`: new ones, or those that the same key made before; and what the
        ledger said.

    Raises:
        DiskFullError, StorageUnavailableError, RedisUnavailableError: nothing was accepted; try again. So
            while Redis is not fit (`core.redis.server`).
        QueueFullError: as many jobs wait as may; nothing was accepted.
        IdempotencyConflictError: the key was used for something else.
        RateLimitError: nothing is left of the limit; nothing was accepted.
        TooManyCamerasError: the camera is new, and there are as many as may be; nothing was accepted.
    """
    services.disk.check()
    if any(is_huge(image.cost_ms) for image in images):
        lane = lanes.BULK
    services.throttle.check(limit)
    services.server.check()
    if idempotency is None:
        services.gate.check(lane)
    elif known := services.jobs.admit(len(images), lane, idempotency, origin.camera):
        return _existing(services, known), Accepted(known)
    try:
        committed = services.commits.commit(
            Upload(_with_origin(images, origin), lane, idempotency, limit, owner)
        )
    except RateLimitError as error:
        services.throttle.learn(limit, error.retry_after)
        raise
    except (QueueFullError, RedisFullError) as error:
        services.gate.shut(lane, error)
        raise
    accepted = committed.accepted
    if accepted.places is None:
        return _existing(services, accepted.ids), accepted
    places = zip(committed.jobs, accepted.places, strict=True)
    return [Submitted(queued(job), place) for job, place in places], accepted


def _with_origin(images: Sequence[Checked], origin: Origin) -> list[Image]:
    expires_ms = origin.expires_ms
    return [
        Image(image.data, image.format, origin.camera, origin.captured_ms, expires_ms, image.cost_ms)
        for image in images
    ]


def _existing(services: Services, ids: Sequence[str]) -> list[Submitted]:
    jobs = services.jobs.read_many(ids)
    found = [job for job in jobs if job is not None]
    if len(found) != len(ids):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The idempotency key belongs to an upload whose record has expired; use a new key.",
        )
    return [Submitted(job, place) for job, place in zip(found, services.jobs.places(ids), strict=True)]


def _max_age_ms(text: str | None) -> int | None:
    if text is None:
        return None
    seconds = parse_number(text)
    if seconds is None or not 0 < seconds <= MAX_AGE_SECONDS:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"X-Max-Age {text[:80]!r} must be seconds above 0 and up to {MAX_AGE_SECONDS:,} (7 days).",
        )
    return math.ceil(seconds * 1000)
