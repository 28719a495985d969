"""From an upload to accepted jobs: check, store, record and enqueue. Single and bulk uploads share it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Final

from werkzeug.datastructures import Headers

from api.problems import RequestError
from api.services import Services
from core.cameras import CAMERA_RULE, DEFAULT_CAMERA, is_camera_id
from core.errors import StorageUnavailableError
from core.headers import MAX_BYTES, MEDIA_TYPES, read_header
from core.jobs import Job, NewJob, new_job_id, queued
from core.ledger import Idempotency
from core.queue import QUEUES

_CLOCK_SKEW_SECONDS: Final = 300
_FIRST_YEAR: Final = 1970  # where clocks that lost their time begin; nothing was photographed before
_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")
_ANY_TYPE: Final = {"", "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Origin:
    """What the headers say of an upload; `captured_ms` is milliseconds since 1970."""

    camera: str
    captured_ms: int | None
    idempotency_key: str | None


@dataclass(frozen=True, slots=True)
class Checked:
    """An image whose header was read and found good; `format` is a key of `MEDIA_TYPES`."""

    data: bytes
    format: str


def read_origin(headers: Headers) -> Origin:
    """Read `X-Camera-Id`, `X-Captured-At` and `Idempotency-Key`.

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
    return Origin(camera, _captured_ms(headers.get("X-Captured-At")), key)


def check(data: bytes, media_type: str, *, any_type: bool = False) -> Checked:
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


def submit(
    services: Services, images: Sequence[Checked], origin: Origin, lane: str, digest_of: bytes
) -> list[Job]:
    """Store the images, then record and enqueue their jobs; all of them or none.

    Args:
        services: where to.
        images: at least one.
        origin: what the headers said.
        lane: one of `core.ledger.LANES`.
        digest_of: what must be the same when the idempotency key is used again.

    Returns:
        The jobs in the order of `images`: new ones, or those that the same key made before.

    Raises:
        StorageUnavailableError, LedgerUnavailableError: nothing was accepted; try again.
        IdempotencyConflictError: the key was used with other bytes.
    """
    idempotency = _idempotency(origin, digest_of)
    known = idempotency and services.jobs.known(idempotency, origin.camera)
    if known:
        return _existing(services, known)
    jobs = [
        NewJob(new_job_id(), origin.camera, image.format, len(image.data), origin.captured_ms)
        for image in images
    ]
    keys = [job.object_key for job in jobs]
    _store(services, keys, images)
    ids = services.jobs.accept(
        jobs,
        lane,
        QUEUES[lane],
        services.envelope.messages(keys, lane),
        idempotency,
    )
    if ids != [job.id for job in jobs]:
        # Another request with the same key was faster; these copies belong to no job.
        _discard(services, keys)
        return _existing(services, ids)
    return [queued(job) for job in jobs]


def _store(services: Services, keys: Sequence[str], images: Sequence[Checked]) -> None:
    if len(keys) == 1:
        services.objects.put(keys[0], images[0].data)
        return
    failures = services.objects.put_many([(key, image.data) for key, image in zip(keys, images, strict=True)])
    failure = next((failure for failure in failures if failure is not None), None)
    if failure is not None:
        _discard(services, keys)
        raise failure


def _discard(services: Services, keys: Sequence[str]) -> None:
    for key in keys:
        try:
            services.objects.delete(key)
        except StorageUnavailableError:
            return  # It stays behind, in no record.


def _existing(services: Services, ids: Sequence[str]) -> list[Job]:
    jobs = services.jobs.read_many(ids)
    found = [job for job in jobs if job is not None]
    if len(found) != len(ids):
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            "The idempotency key belongs to an upload whose record has expired; use a new key.",
        )
    return found


def _idempotency(origin: Origin, digest_of: bytes) -> Idempotency | None:
    if origin.idempotency_key is None:
        return None
    return Idempotency(origin.idempotency_key, hashlib.blake2b(digest_of, digest_size=16).hexdigest())


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
    if moment.year < _FIRST_YEAR:
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies before {_FIRST_YEAR}; set the camera's clock, or leave it out.",
        )
    if (moment - datetime.now(UTC)).total_seconds() > _CLOCK_SKEW_SECONDS:
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies in the future; set the camera's clock, or leave the header out.",
        )
    return round(moment.timestamp() * 1000)
