"""Metadata of uploads: camera, time, maximum age and idempotency key, from headers and a form's part."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from werkzeug.datastructures import Headers

from api.http import validation
from api.http.multipart import METADATA
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.timestamps import captured_ms, parse_number
from api.ingest.commit import Origin
from api.schemas.images import BulkMetadata, FileMetadata
from core.cameras import DEFAULT_CAMERA, camera_id, camera_id_in_header
from core.errors import CameraIdError

MAX_AGE_SECONDS: Final = 7 * 24 * 3600
"""Longest `X-Max-Age` or `max_age`, seconds."""

MAX_PART_BYTES: Final = 256 * 1024
"""Bytes of a form's part `metadata`."""

_KEY_PATTERN: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Metadata:
    """Metadata of an image, from its client. `captured_ms`: ms since 1970; `max_age`: seconds."""

    camera: str
    captured_ms: int | None = None
    max_age: float | None = None
    idempotency_key: str | None = None

    def origin(self) -> Origin:
        """Return the origin of the image, whose age counts from its capture, or else from now."""
        if self.max_age is None:
            return Origin(self.camera, self.captured_ms)
        begin = time.time_ns() // 1_000_000 if self.captured_ms is None else self.captured_ms
        return Origin(self.camera, self.captured_ms, begin + math.ceil(self.max_age * 1000))


def read_headers(headers: Headers) -> Metadata:
    """Read `X-Camera-Id`, `X-Captured-At`, `X-Max-Age` and `Idempotency-Key`.

    Raises:
        CameraIdError: `X-Camera-Id` cannot be a camera's id.
        RequestError: 400 for another that is malformed, 422 for a time in the future or before 1970.
    """
    age, kind = headers.get("X-Max-Age"), ProblemType.INVALID_HEADER
    return Metadata(
        camera_id_in_header(headers.get("X-Camera-Id", DEFAULT_CAMERA)),
        captured_ms(headers.get("X-Captured-At"), "X-Captured-At", kind),
        None if age is None else _max_age(parse_number(age), age, "X-Max-Age", kind),
        _idempotency_key(headers.get("Idempotency-Key"), "Idempotency-Key", kind),
    )


def read_part(part: memoryview, files: int, call: Metadata) -> list[Metadata | RequestError]:
    """Read a form's part `metadata`. Headers of the call apply where a file's entry has no member.

    A wrong value is the error of its file.

    Args:
        part: the content of the part.
        files: how many files the form has.
        call: from the headers.

    Raises:
        RequestError: 400, the part is not JSON, has unknown members, members of the wrong type, or not an
            entry for each file; or both the call and a file have an idempotency key. 413, it is too long.
    """
    entries = _entries(part)
    if len(entries) != files:
        raise RequestError(
            ProblemType.INVALID_BODY,
            f"The part metadata has {len(entries)} entries in files, but the form has {files} files; "
            "send one entry for each file, in order.",
        )
    keyed = [number for number, entry in enumerate(entries) if entry.idempotency_key is not None]
    if keyed and call.idempotency_key is not None:
        raise RequestError(
            ProblemType.INVALID_BODY,
            f"The call has an Idempotency-Key, and files[{keyed[0]}] an idempotency_key; send the header for "
            "the whole call, or a key for each file, not both.",
        )
    return [_overridden(call, entry, f"files[{number}]") for number, entry in enumerate(entries)]


def _entries(part: memoryview) -> Sequence[FileMetadata]:
    if len(part) > MAX_PART_BYTES:
        raise RequestError(
            ProblemType.BODY_TOO_LARGE,
            f"The part metadata has {len(part):,} bytes; send at most {MAX_PART_BYTES:,} (256 KiB).",
        )
    return validation.read_part(BulkMetadata, part, METADATA).files


def _overridden(call: Metadata, entry: FileMetadata, place: str) -> Metadata | RequestError:
    """Return the metadata of a file, or the error in its entry; `place` is the entry's, for the sentence."""
    captured, age, kind = entry.captured_at, entry.max_age, ProblemType.INVALID_BODY
    try:
        return Metadata(
            call.camera if entry.camera is None else camera_id(entry.camera),
            call.captured_ms if captured is None else captured_ms(captured, f"{place}.captured_at", kind),
            call.max_age if age is None else _max_age(age, f"{age:g}", f"{place}.max_age", kind),
            _idempotency_key(entry.idempotency_key, f"{place}.idempotency_key", kind),
        )
    except CameraIdError as error:
        return RequestError(ProblemType.INVALID_CAMERA_ID, f"{place}.camera: {error}")
    except RequestError as error:
        return error


def _max_age(seconds: float | None, text: str, name: str, kind: ProblemType) -> float:
    if seconds is None or not 0 < seconds <= MAX_AGE_SECONDS:
        raise RequestError(
            kind, f"{name} {text[:80]!r} must be seconds above 0 and up to {MAX_AGE_SECONDS:,} (7 days)."
        )
    return seconds


def _idempotency_key(key: str | None, name: str, kind: ProblemType) -> str | None:
    if key is not None and not _KEY_PATTERN.fullmatch(key):
        raise RequestError(kind, f"{name} must be 1 to 128 visible ASCII characters; a UUID is good.")
    return key
