"""`/v1/images`: uploads."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.auth.policy import caller, check_scope, requires
from api.http.body import body_done, read_body, read_files, takes
from api.http.encodings import unwrap
from api.http.long_poll import wait_seconds, when_settled
from api.http.multipart import File
from api.http.problems import RequestError, problem_of, respond
from api.ingest.admission import limit_headers
from api.ingest.check import check, idempotency_of, read_origin
from api.ingest.commit import Image, Origin, Upload
from api.ingest.upload import submit
from api.routes.jobs import blueprint as jobs
from api.schemas.jobs import queued_document
from api.services import services
from core.errors import ImageError, RateLimitError, RedisUnavailableError
from core.image_header import MAX_BYTES
from core.jobs import Job
from core.lanes import BULK, SINGLE
from core.redis.admission import Accepted
from core.redis.api_keys import Scope
from core.redis.eta import Place

MAX_FILES: Final = 64
"""Files in one bulk upload."""

MAX_BULK_BYTES: Final = 128 * 1024 * 1024
"""Bytes of one bulk upload: 64 frames of 2 MB."""

_MAX_PARTS: Final = 1000  # parts that are still counted, to say how many are too many

blueprint = Blueprint("images", __name__, url_prefix="/v1/images")


@blueprint.post("")
@requires(Scope.INGEST)
@takes(MAX_BYTES, SINGLE)
def upload() -> tuple[Response, int, dict[str, str]]:
    """Take one image; 202 with its job, and with `?wait=SECONDS` the moment it settles."""
    seconds = wait_seconds()
    if seconds:
        check_scope(Scope.READ)
    job, place, headers = _accept()
    # Written out: `url_for` takes a twentieth of the time that an upload holds the interpreter.
    headers["Location"] = f"{request.root_path}{jobs.url_prefix}/{job.id}"
    if seconds and not job.state.terminal:
        body_done()
        job, place, early = _settled(job, place, seconds)
        headers.update(early)
    return jsonify(_document(job, place)), HTTPStatus.ACCEPTED, headers


def _accept() -> tuple[Job, Place | None, dict[str, str]]:
    """Take the image of the current request; a function of its own, so that none waits with it in memory."""
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large(
            f"The image has {request.content_length:,} bytes; send at most {MAX_BYTES:,} (10 MiB)."
        )
    origin = read_origin(request.headers)
    owner, limit = caller().id, caller().limit
    data, media_type = unwrap(read_body(MAX_BYTES), request.mimetype)
    image = check(data, media_type)
    idempotency = idempotency_of(origin, [(media_type, data)], owner)
    accepted = submit(services(), Upload([image], origin, SINGLE, idempotency, limit, owner))
    return accepted.jobs[0], accepted.places[0], limit_headers(limit, accepted)


def _settled(job: Job, place: Place | None, seconds: float) -> tuple[Job, Place | None, dict[str, str]]:
    """Return the job when it has settled or the time is over, with headers for the answer."""
    try:
        settled, headers = when_settled(job.id, seconds)
        if settled is None:
            return job, place, headers
        return settled, None if settled.state.terminal else services().jobs.places([job.id])[0], headers
    except RedisUnavailableError:
        return job, place, {}  # It was accepted, and that is what its sender must learn.


@blueprint.post("/bulk")
@requires(Scope.INGEST)
@takes(MAX_BULK_BYTES, BULK)
def upload_bulk() -> tuple[Response, int, dict[str, str]]:
    """Take up to 64 images; 202 with each one's outcome, in order."""
    if "wait" in request.args:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "Bulk uploads cannot wait; ask for their jobs with POST /v1/jobs/query."
        )
    if (request.content_length or 0) > MAX_BULK_BYTES:
        raise _too_large(f"The call has more than {MAX_BULK_BYTES:,} bytes; send fewer files in each.")
    origin = read_origin(request.headers)
    return _take(_files(), origin)


def _take(files: list[File], origin: Origin) -> tuple[Response, int, dict[str, str]]:
    checks = [_checked(file) for file in files]
    images = [image for image in checks if isinstance(image, Image)]
    owner, limit, accepted = caller().id, caller().limit, Accepted()
    if images:
        idempotency = idempotency_of(origin, ((file.media_type, file.data) for file in files), owner)
        accepted = submit(services(), Upload(images, origin, BULK, idempotency, limit, owner))
    rest = zip(accepted.jobs, accepted.places, strict=True)
    items = [_item(file, checked, rest) for file, checked in zip(files, checks, strict=True)]
    return jsonify({"items": items}), HTTPStatus.ACCEPTED, limit_headers(limit, accepted)


@blueprint.errorhandler(RateLimitError)
def _limited(error: RateLimitError) -> Response:
    response = respond(problem_of(error), error.retry_after)
    used_up = Accepted(left=0, whole_in=error.retry_after)
    response.headers.update(limit_headers(caller().limit, used_up))
    return response


def _files() -> list[File]:
    if request.mimetype != "multipart/form-data":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send multipart/form-data with one file part for each image."
        )
    try:
        files = read_files(MAX_BULK_BYTES, most_parts=_MAX_PARTS)
    except RequestEntityTooLarge as error:
        raise _too_large(
            f"The form has more than {MAX_BULK_BYTES:,} bytes or {_MAX_PARTS:,} parts, or a part's header "
            f"more than 4 kB; send at most {MAX_FILES} files in one call."
        ) from error
    if not files:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "The form holds no file; add one file part for each image."
        )
    if len(files) > MAX_FILES:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"The form holds {len(files)} files; send at most {MAX_FILES} in one call.",
        )
    return files


def _checked(file: File) -> Image | dict[str, Any]:
    try:
        return check(*file.image())
    except (RequestError, ImageError) as error:
        return problem_of(error)


def _item(
    file: File, checked: Image | dict[str, Any], rest: Iterator[tuple[Job, Place | None]]
) -> dict[str, Any]:
    if isinstance(checked, Image):
        return {"file": file.name, "status": int(HTTPStatus.ACCEPTED), "job": _document(*next(rest))}
    return {"file": file.name, "status": checked["status"], "error": checked}


def _document(job: Job, place: Place | None) -> dict[str, Any]:
    """Return the job for its sender, who sees the prediction only with a key that may read."""
    document = queued_document(job, place)
    return document if caller().may(Scope.READ) else {**document, "prediction": None}


def _too_large(detail: str) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
