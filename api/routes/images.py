"""`/v1/images`: uploads."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.auth.policy import by_camera, caller, check_scope, requires
from api.http.body import accepts_body, read_body, read_form, release_body
from api.http.encodings import unwrap
from api.http.multipart import METADATA, File, Form
from api.http.problem_types import ProblemType
from api.http.problems import RequestError, problem_of, respond
from api.http.validation import read_query
from api.ingest.admission import limit_headers
from api.ingest.bulk import FileOutcome, submit_form
from api.ingest.check import check, idempotency_of
from api.ingest.commit import Upload
from api.ingest.metadata import read_headers
from api.ingest.outcomes import count_rejected
from api.openapi.operation import Answer, Body, operation, respond_with
from api.routes.jobs import blueprint as jobs
from api.routes.long_poll import wait_settled
from api.schemas.images import (
    AcceptedFile,
    BulkMetadata,
    BulkOutcome,
    EncodedUploadHeaders,
    FileMetadata,
    RejectedFile,
)
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem
from api.schemas.wait import WaitQuery
from api.services import services
from core.errors import RateLimitError, RedisUnavailableError, WastestreamError
from core.image_header import MAX_BYTES, MEDIA_TYPES
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

_LIMITS: Final = ("RateLimit-Policy", "RateLimit")

_IMAGE_TYPES: Final = (*sorted(MEDIA_TYPES.values()), "application/octet-stream")
_BINARY: Final = {"type": "string", "format": "binary", "minLength": 1, "maxLength": MAX_BYTES}
_FORM: Final = {
    "type": "object",
    "properties": {
        METADATA: {
            "type": "object",
            "properties": {
                "files": {
                    "type": "array",
                    "items": FileMetadata.model_json_schema(),
                    "description": BulkMetadata.model_fields["files"].description,
                }
            },
            "required": ["files"],
            "additionalProperties": False,
            "description": "JSON, the first part: for each file the values that replace the header fields.",
        },
        "files": {
            "type": "array",
            "items": {"type": "string", "format": "binary"},
            "minItems": 1,
            "maxItems": MAX_FILES,
            "description": "The images, as file parts; names other than `files` are accepted. "
            "Text fields are rejected.",
        },
    },
    "required": ["files"],
    "additionalProperties": False,
}

_UPLOAD_PROBLEMS: Final = (
    ProblemType.INVALID_HEADER,
    ProblemType.INVALID_CAMERA_ID,
    ProblemType.CAMERA_FORBIDDEN,
    ProblemType.INVALID_TIME,
    ProblemType.INVALID_ENCODING,
    ProblemType.EMPTY_IMAGE,
    ProblemType.UNSUPPORTED_IMAGE,
    ProblemType.MEDIA_TYPE_MISMATCH,
    ProblemType.UNSUPPORTED_ENCODING,
    ProblemType.DAMAGED_IMAGE,
    ProblemType.IMAGE_TOO_LARGE,
    ProblemType.TOO_MANY_CAMERAS,
    ProblemType.IDEMPOTENCY_CONFLICT,
    ProblemType.QUEUE_FULL,
    ProblemType.RATE_LIMIT_EXCEEDED,
    ProblemType.DISK_FULL,
)
"""Of single uploads, and of bulk uploads or their files."""

blueprint = Blueprint("images", __name__, url_prefix="/v1/images")


@blueprint.post("")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_BYTES, SINGLE)
@operation(
    "uploadImage",
    {202: Answer("The job.", QueuedJob, headers=["Location", "Retry-After", *_LIMITS])},
    problems=[ProblemType.INVALID_PARAMETER, *_UPLOAD_PROBLEMS],
    query=WaitQuery,
    headers=EncodedUploadHeaders,
    body=Body(media_types=dict.fromkeys(_IMAGE_TYPES, _BINARY)),
)
def upload() -> tuple[Response, int, dict[str, str]]:
    """Upload one image.

    JPEG, PNG or WebP, at most 10 MiB and 50 million pixels. 202 means: stored, recorded and enqueued. With
    `wait`, which needs the scope `read` as well, the response comes as soon as the job has settled; the image
    is accepted before the wait begins, whatever its outcome.
    """
    seconds = read_query(WaitQuery).wait
    if seconds:
        check_scope(Scope.READ)
    try:
        job, place, headers = _accept()
    except WastestreamError as error:
        count_rejected(SINGLE, error)
        raise
    # Not `url_for`, which takes a twentieth of an upload's time in the interpreter.
    headers["Location"] = f"{request.root_path}{jobs.url_prefix}/{job.id}"
    if seconds and not job.state.terminal:
        release_body()
        job, place, early = _settled(job, place, seconds)
        headers.update(early)
    return respond_with(_document(job, place)), HTTPStatus.ACCEPTED, headers


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
@operation(
    "uploadImages",
    {202: Answer("The outcome of each file.", BulkOutcome, headers=_LIMITS)},
    problems=[
        ProblemType.INVALID_PARAMETER,
        ProblemType.INVALID_BODY,
        ProblemType.UNSUPPORTED_BODY,
        ProblemType.TOO_MANY_ITEMS,
        *_UPLOAD_PROBLEMS,
    ],
    headers=EncodedUploadHeaders,
    body=Body(media_types={"multipart/form-data": _FORM}, part_types={"files": _IMAGE_TYPES}),
)
def upload_bulk() -> tuple[Response, int, dict[str, str]]:
    """Upload many images.

    A form with a file part for each image, at most 64 files and 128 MiB. The header fields apply to all files
    whose entry in the part `metadata` says nothing else, so one call takes frames of many cameras and hours.
    Each file has its own outcome, in order: a bad file does not affect the others. The good files are
    accepted together or not at all: after 429 and 503, none is.
    """
    if (request.content_length or 0) > MAX_BULK_BYTES:
        raise _too_large(f"The request has more than {MAX_BULK_BYTES:,} bytes; send fewer files at a time.")
    call, form = read_headers(request.headers), _form()
    try:
        outcomes, accepted = submit_form(form, call, caller(), services().ingest)
    except WastestreamError as error:
        count_rejected(BULK, error, len(form.files))
        raise
    items = [_item(file, outcome) for file, outcome in zip(form.files, outcomes, strict=True)]
    headers = limit_headers(caller().limit, accepted)
    return respond_with(BulkOutcome(items=items)), HTTPStatus.ACCEPTED, headers


@blueprint.errorhandler(RateLimitError)
def _limited(error: RateLimitError) -> Response:
    response = respond(problem_of(error), error.retry_after)
    used_up = Accepted(left=0, whole_in=error.retry_after)
    response.headers.update(limit_headers(caller().limit, used_up))
    return response


def _form() -> Form:
    if request.mimetype != "multipart/form-data":
        raise RequestError(
            ProblemType.UNSUPPORTED_BODY,
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
        raise RequestError(ProblemType.INVALID_BODY, "The form has no file; add a file part for each image.")
    if len(form.files) > MAX_FILES:
        raise RequestError(
            ProblemType.TOO_MANY_ITEMS,
            f"The form has {len(form.files)} files; send at most {MAX_FILES} at a time.",
        )
    return form


def _item(file: File, outcome: FileOutcome) -> AcceptedFile | RejectedFile:
    if isinstance(outcome, WastestreamError):
        count_rejected(BULK, outcome)
        problem = Problem(**problem_of(outcome))
        return RejectedFile(file=file.name, status=problem.status, error=problem)
    return AcceptedFile(file=file.name, status=202, job=_document(*outcome))


def _document(job: Job, place: Place | None) -> QueuedJob:
    """Return the job for its sender, without the prediction if its key lacks the scope `read`."""
    return QueuedJob.at(job, place, with_prediction=caller().may(Scope.READ))


def _too_large(detail: str) -> RequestError:
    return RequestError(ProblemType.BODY_TOO_LARGE, detail)
