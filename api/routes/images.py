"""`/v1/images`: uploads."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.auth.policy import by_camera, caller, check_scope, requires
from api.http.body import accepts_body, read_body, read_form, release_body
from api.http.encodings import unwrap
from api.http.multipart import File, Form
from api.http.problems import RequestError, problem_of, respond
from api.ingest.admission import limit_headers
from api.ingest.bulk import FileOutcome, submit_form
from api.ingest.check import check, idempotency_of
from api.ingest.commit import Upload
from api.ingest.metadata import read_headers
from api.routes.jobs import blueprint as jobs
from api.routes.long_poll import wait_seconds, wait_settled
from api.schemas.jobs import queued_document
from api.services import services
from core.errors import RateLimitError, RedisUnavailableError, WastestreamError
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

_MAX_PARTS: Final = 1000  # parts that are counted to name their number in the error

blueprint = Blueprint("images", __name__, url_prefix="/v1/images")


@blueprint.post("")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_BYTES, SINGLE)
def upload() -> tuple[Response, int, dict[str, str]]:
    """Accept one image; 202 with its job, and with `?wait=SECONDS` as soon as the job settles."""
    seconds = wait_seconds()
    if seconds:
        check_scope(Scope.READ)
    job, place, headers = _accept()
    # Not `url_for`, which takes a twentieth of an upload's time in the interpreter.
    headers["Location"] = f"{request.root_path}{jobs.url_prefix}/{job.id}"
    if seconds and not job.state.terminal:
        release_body()
        job, place, early = _settled(job, place, seconds)
        headers.update(early)
    return jsonify(_document(job, place)), HTTPStatus.ACCEPTED, headers


def _accept() -> tuple[Job, Place | None, dict[str, str]]:
    """Accept the image of the current request. Its bytes are freed on return, before the request waits."""
    if (request.content_length or 0) > MAX_BYTES:
        raise _too_large(
            f"The image has {request.content_length:,} bytes; send at most {MAX_BYTES:,} (10 MiB)."
        )
    metadata, sender = read_headers(request.headers), caller()
    sender.check_camera(metadata.camera)
    data, media_type = unwrap(read_body(MAX_BYTES), request.mimetype)
    image = check(data, media_type, metadata.origin())
    idempotency = idempotency_of(metadata.idempotency_key, [image], [(media_type, data)], sender.id)
    limit = sender.limit
    accepted = services().ingest.submit(Upload([image], SINGLE, idempotency, limit, sender.id))
    return accepted.jobs[0], accepted.places[0], limit_headers(limit, accepted)


def _settled(job: Job, place: Place | None, seconds: float) -> tuple[Job, Place | None, dict[str, str]]:
    """Return the job when it has settled or the time is over, with headers for the response."""
    try:
        settled, headers = wait_settled(job.id, seconds)
        if settled is None:
            return job, place, headers
        return settled, None if settled.state.terminal else services().jobs.places([job.id])[0], headers
    except RedisUnavailableError:
        return job, place, {}  # The image was accepted, and the client must learn that.


@blueprint.post("/bulk")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_BULK_BYTES, BULK)
def upload_bulk() -> tuple[Response, int, dict[str, str]]:
    """Accept up to 64 images, perhaps of several cameras; 202 with the outcome of each, in order."""
    if "wait" in request.args:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "Bulk uploads cannot wait; query their jobs with POST /v1/jobs/query."
        )
    if (request.content_length or 0) > MAX_BULK_BYTES:
        raise _too_large(f"The request has more than {MAX_BULK_BYTES:,} bytes; send fewer files at a time.")
    call, form = read_headers(request.headers), _form()
    outcomes, accepted = submit_form(form, call, caller(), services().ingest)
    items = [_item(file, outcome) for file, outcome in zip(form.files, outcomes, strict=True)]
    return jsonify({"items": items}), HTTPStatus.ACCEPTED, limit_headers(caller().limit, accepted)


@blueprint.errorhandler(RateLimitError)
def _limited(error: RateLimitError) -> Response:
    response = respond(problem_of(error), error.retry_after)
    used_up = Accepted(left=0, whole_in=error.retry_after)
    response.headers.update(limit_headers(caller().limit, used_up))
    return response


def _form() -> Form:
    if request.mimetype != "multipart/form-data":
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "The request is not a form; send multipart/form-data with a file part for each image.",
        )
    try:
        form = read_form(MAX_BULK_BYTES, max_parts=_MAX_PARTS)
    except RequestEntityTooLarge as error:
        raise _too_large(
            f"The form has more than {MAX_BULK_BYTES:,} bytes or {_MAX_PARTS:,} parts, or a part's header "
            f"more than 4 kB; send at most {MAX_FILES} files at a time."
        ) from error
    if not form.files:
        raise RequestError(HTTPStatus.BAD_REQUEST, "The form has no file; add a file part for each image.")
    if len(form.files) > MAX_FILES:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"The form has {len(form.files)} files; send at most {MAX_FILES} at a time.",
        )
    return form


def _item(file: File, outcome: FileOutcome) -> dict[str, Any]:
    if isinstance(outcome, WastestreamError):
        problem = problem_of(outcome)
        return {"file": file.name, "status": problem["status"], "error": problem}
    return {"file": file.name, "status": int(HTTPStatus.ACCEPTED), "job": _document(*outcome)}


def _document(job: Job, place: Place | None) -> dict[str, Any]:
    """Return the job for its sender, without the prediction if its key lacks the scope `read`."""
    document = queued_document(job, place)
    return document if caller().may(Scope.READ) else {**document, "prediction": None}


def _too_large(detail: str) -> RequestError:
    return RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, detail)
