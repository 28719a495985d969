"""The check of an upload: its headers, and its images by their beginnings, without decoding them."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Iterable
from typing import Final

from werkzeug.datastructures import Headers

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.timestamps import captured_ms, parse_number
from api.ingest.commit import Image, Origin
from core.cameras import DEFAULT_CAMERA, camera_id_in_header
from core.cost import decode_ms
from core.formats.layout import ImageBytes
from core.image_header import MAX_BYTES, read_header
from core.redis.admission import Idempotency

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
            ProblemType.INVALID_HEADER,
            "Idempotency-Key must be 1 to 128 visible ASCII characters; a UUID is good.",
        )
    captured = captured_ms(headers.get("X-Captured-At"))
    return Origin(camera, captured, _expires_ms(headers.get("X-Max-Age"), captured), key)


def check(data: ImageBytes, media_type: str) -> Image:
    """Check one image by its bytes' beginning, without decoding it.

    The bytes tell what an image is. A declared type only excludes another image type: cameras declare
    `application/octet-stream`, nothing, or what their HTTP library adds by itself.

    Args:
        data: the bytes sent.
        media_type: the type that the client declared, empty if none.

    Raises:
        RequestError: 400 empty, 413 too many bytes, 415 another image type than the one declared.
        ImageError: as `core.image_header.read_header`.
    """
    if not data:
        raise RequestError(ProblemType.EMPTY_IMAGE, "The image is empty; send its bytes.")
    if len(data) > MAX_BYTES:
        raise RequestError(
            ProblemType.BODY_TOO_LARGE,
            f"The image has {len(data):,} bytes; send at most {MAX_BYTES:,} (10 MiB).",
        )
    header = read_header(data)
    if media_type != header.media_type and _is_other_image(media_type, header.media_type):
        raise RequestError(
            ProblemType.MEDIA_TYPE_MISMATCH,
            f"Content-Type says {media_type[:80]}, but the bytes are {header.media_type}; "
            "declare what is sent, or application/octet-stream.",
        )
    return Image(data, header.format, decode_ms(header, len(data)))


def _is_other_image(media_type: str, actual: str) -> bool:
    """Return whether a media type, as a client wrote it, names an image type that is not the actual one."""
    name = media_type.partition(";")[0].strip().lower()
    return name.startswith("image/") and name != "image/*" and _ALIASES.get(name, name) != actual


def idempotency_of(origin: Origin, parts: Iterable[tuple[str, ImageBytes]], owner: str) -> Idempotency | None:
    """Return the idempotency key of an upload with a digest of all that must be the same if it is repeated.

    Args:
        origin: the headers.
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


def _expires_ms(max_age: str | None, captured: int | None) -> int | None:
    if max_age is None:
        return None
    seconds = parse_number(max_age)
    if seconds is None or not 0 < seconds <= MAX_AGE_SECONDS:
        raise RequestError(
            ProblemType.INVALID_HEADER,
            f"X-Max-Age {max_age[:80]!r} must be seconds above 0 and up to {MAX_AGE_SECONDS:,} (7 days).",
        )
    return (time.time_ns() // 1_000_000 if captured is None else captured) + math.ceil(seconds * 1000)
