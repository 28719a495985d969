"""`/v1/uploads`: direct uploads, whose bytes go from the client to storage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from flask import Blueprint, Response

from api.auth.policy import by_camera, caller, requires
from api.http.body import JSON, MAX_JSON_BYTES, accepts_body
from api.http.problem_types import ProblemType
from api.http.problems import RequestError, problem_of
from api.http.timestamps import captured_ms
from api.http.validation import read_document
from api.ingest.admission import limit_headers
from api.ingest.announcement import Announcement
from api.ingest.direct import DirectUploads, Slot, UploadOutcome
from api.ingest.metadata import Metadata
from api.openapi.operation import Answer, Body, operation, respond_with
from api.schemas import uploads as schemas
from api.schemas.jobs import QueuedJob
from api.schemas.problems import Problem
from api.services import services
from core.cameras import DEFAULT_CAMERA
from core.errors import QueueFullError, RateLimitError, WastestreamError
from core.lanes import BULK
from core.redis.api_keys import Scope
from core.times import timestamp

_PROBLEMS: Final = (
    ProblemType.UPLOADS_OFF,
    ProblemType.TOO_MANY_ITEMS,
    ProblemType.QUEUE_FULL,
    ProblemType.RATE_LIMIT_EXCEEDED,
    ProblemType.DISK_FULL,
)
"""Of both calls."""

_UPLOAD_PROBLEMS: Final = (
    ProblemType.INVALID_UPLOAD,
    ProblemType.UPLOAD_MISSING,
    ProblemType.UPLOAD_EXPIRED,
    ProblemType.SIZE_MISMATCH,
    ProblemType.UNSUPPORTED_IMAGE,
    ProblemType.MEDIA_TYPE_MISMATCH,
    ProblemType.DAMAGED_IMAGE,
    ProblemType.IMAGE_TOO_LARGE,
    ProblemType.TOO_MANY_CAMERAS,
    ProblemType.IDEMPOTENCY_CONFLICT,
)
"""Of single uploads in a call that completes them."""

blueprint = Blueprint("uploads", __name__, url_prefix="/v1/uploads")


@blueprint.post("")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_JSON_BYTES, JSON)
@operation(
    "announceUploads",
    {201: Answer("The presigned URL for each image.", schemas.UploadSlots)},
    problems=[*_PROBLEMS, ProblemType.INVALID_TIME, ProblemType.CAMERA_FORBIDDEN],
    body=Body(schemas.Announcements),
)
def announce() -> tuple[Response, int]:
    """Announce images to put into storage.

    Up to 1,000 images, whose bytes then go from the client to storage, each with one `PUT` to its URL. The
    URLs are valid for 15 minutes, for the size and type announced. Then complete the uploads. An image whose
    upload is not completed has no job, and is deleted when its retention ends.
    """
    uploads = _uploads()
    files = read_document(schemas.Announcements).files
    _check_number(len(files), "files")
    announcements = [_announcement(number, file) for number, file in enumerate(files)]
    slots = uploads.announce(announcements, caller().limit)
    return respond_with(schemas.UploadSlots(uploads=list(map(_slot, slots)))), HTTPStatus.CREATED


@blueprint.post("/complete")
@requires(Scope.INGEST)
@by_camera
@accepts_body(MAX_JSON_BYTES, BULK)  # For the threads of bulk uploads: it waits for storage.
@operation(
    "completeUploads",
    {
        202: Answer(
            "The outcome of each upload.",
            schemas.UploadOutcomes,
            headers=["Retry-After", "RateLimit-Policy", "RateLimit"],
        )
    },
    problems=_PROBLEMS,
    item_problems=[*_UPLOAD_PROBLEMS, ProblemType.QUEUE_FULL, ProblemType.RATE_LIMIT_EXCEEDED],
    body=Body(schemas.Completion),
)
def complete() -> tuple[Response, int, dict[str, str]]:
    """Make jobs of direct uploads.

    Up to 1,000 ids of images that are in storage. Each upload has its own outcome, in order. The same upload
    again gives the same job, so a client that missed the response can repeat the call. Uploads with the
    status 429 can be completed after `Retry-After` seconds.
    """
    uploads = _uploads()
    ids = read_document(schemas.Completion).uploads
    _check_number(len(ids), "ids")
    outcomes, accepted = uploads.complete(ids, caller().id, caller().limit)
    items = [_item(upload_id, outcome) for upload_id, outcome in zip(ids, outcomes, strict=True)]
    headers = limit_headers(caller().limit, accepted) | _retry_after(outcomes)
    return respond_with(schemas.UploadOutcomes(items=items)), HTTPStatus.ACCEPTED, headers


def _uploads() -> DirectUploads:
    deps = services()
    if not deps.settings.s3_public_endpoint:
        raise RequestError(
            ProblemType.UPLOADS_OFF,
            "Direct uploads are off; send the bytes to /v1/images, or let the operator set "
            "WASTESTREAM_S3_PUBLIC_ENDPOINT to the address at which clients reach the S3 server.",
        )
    return deps.direct_uploads


def _check_number(number: int, what: str) -> None:
    if number > schemas.MAX_UPLOADS:
        raise RequestError(
            ProblemType.TOO_MANY_ITEMS,
            f"{number:,} {what} are too many; send at most {schemas.MAX_UPLOADS:,} at a time.",
        )


def _announcement(number: int, file: schemas.AnnouncedFile) -> Announcement:
    camera = file.camera or DEFAULT_CAMERA
    caller().check_camera(camera)
    captured = captured_ms(file.captured_at, f"files[{number}].captured_at", ProblemType.INVALID_BODY)
    origin = Metadata(camera, captured, file.max_age).origin()
    return Announcement.new(
        file.media_type.removeprefix("image/"),
        file.size,
        camera,
        captured_ms=origin.captured_ms,
        expires_ms=origin.expires_ms,
        idempotency_key=file.idempotency_key,
        owner=caller().id,
    )


def _slot(slot: Slot) -> schemas.UploadSlot:
    return schemas.UploadSlot(
        id=slot.id,
        method="PUT",
        url=slot.url,
        headers={"Content-Type": slot.media_type},
        expires_at=timestamp(slot.expires_ms),
    )


def _item(upload_id: str, outcome: UploadOutcome) -> schemas.AcceptedUpload | schemas.RejectedUpload:
    if isinstance(outcome, WastestreamError):
        error = Problem(**problem_of(outcome))
        return schemas.RejectedUpload(upload=upload_id, status=error.status, error=error)
    job = QueuedJob.at(*outcome, with_prediction=caller().may(Scope.READ))
    return schemas.AcceptedUpload(upload=upload_id, status=202, job=job)


def _retry_after(outcomes: Sequence[UploadOutcome]) -> dict[str, str]:
    seconds = [
        outcome.retry_after for outcome in outcomes if isinstance(outcome, QueueFullError | RateLimitError)
    ]
    return {"Retry-After": str(math.ceil(max(seconds)))} if seconds else {}
