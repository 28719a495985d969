"""`/v1/images`: uploads."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request, url_for
from werkzeug.datastructures import FileStorage
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import RequestError, problem_of
from api.services import services
from api.uploads import Checked, Origin, check, read_origin, submit
from core.errors import ImageError
from core.headers import MAX_BYTES
from core.jobs import Job
from core.ledger import BULK, SINGLE

MOST_FILES: Final = 64
"""Files in one bulk upload."""

MOST_BULK_BYTES: Final = 128 * 1024 * 1024
"""Bytes of one bulk upload: 64 frames of 2 MB."""

_MOST_PARTS: Final = 1000  # parts that are still counted, to say how many are too many

blueprint = Blueprint("images", __name__, url_prefix="/v1/images")


@blueprint.post("")
def upload() -> tuple[Response, int, dict[str, str]]:
    """Take one image; 202 with its job."""
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large(
            f"The image has {request.content_length:,} bytes; send at most {MAX_BYTES:,} (10 MiB)."
        )
    # Bounds a body that does not declare its length, which is cut off there: one byte more tells it apart.
    request.max_content_length = MAX_BYTES + 1
    origin = read_origin(request.headers)
    data = request.get_data(cache=False)
    image = check(data, request.mimetype)
    (job,) = submit(services(), [image], origin, SINGLE, data)
    return jsonify(job.to_json()), HTTPStatus.ACCEPTED, {"Location": url_for("jobs.show", job_id=job.id)}


@blueprint.post("/bulk")
def upload_bulk() -> tuple[Response, int]:
    """Take up to 64 images; 202 with each one's outcome, in order."""
    if (request.content_length or 0) > MOST_BULK_BYTES:
        raise _too_large(f"The call has more than {MOST_BULK_BYTES:,} bytes; send fewer files in each.")
    request.max_content_length = MOST_BULK_BYTES
    request.max_form_parts = _MOST_PARTS
    origin = read_origin(request.headers)
    with services().bulk_place():
        return _take(origin)


def _take(origin: Origin) -> tuple[Response, int]:
    files = _files()
    contents = [file.read() for file in files]
    checks = [_checked(file, data) for file, data in zip(files, contents, strict=True)]
    good = [found for found in checks if isinstance(found, Checked)]
    digest = b"".join(hashlib.blake2b(data, digest_size=16).digest() for data in contents)
    jobs = iter(submit(services(), good, origin, BULK, digest) if good else ())
    items = [_item(file, found, jobs) for file, found in zip(files, checks, strict=True)]
    return jsonify({"items": items}), HTTPStatus.ACCEPTED


def _files() -> list[FileStorage]:
    if request.mimetype != "multipart/form-data":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send multipart/form-data with one file part for each image."
        )
    try:
        files = [file for _, file in request.files.items(multi=True)]
    except RequestEntityTooLarge as error:
        raise _too_large(
            f"The form has more than {MOST_BULK_BYTES:,} bytes or {_MOST_PARTS:,} parts; "
            f"send at most {MOST_FILES} files in one call."
        ) from error
    if not files:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "The form holds no file; add one file part for each image."
        )
    if len(files) > MOST_FILES:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"The form holds {len(files)} files; send at most {MOST_FILES} in one call.",
        )
    return files


def _checked(file: FileStorage, data: bytes) -> Checked | dict[str, Any]:
    try:
        return check(data, file.mimetype, any_type=True)
    except (RequestError, ImageError) as error:
        return problem_of(error)


def _item(file: FileStorage, found: Checked | dict[str, Any], jobs: Any) -> dict[str, Any]:
    if isinstance(found, Checked):
        job: Job = next(jobs)
        return {"file": file.filename, "status": int(HTTPStatus.ACCEPTED), "job": job.to_json()}
    return {"file": file.filename, "status": found["status"], "error": found}


def _too_large(detail: str) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
