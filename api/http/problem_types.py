"""The types of problems that the API responds with: each has a status, a title and an explanation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from http import HTTPStatus
from typing import Final

PREFIX: Final = "/problems/"
"""Path below which each type has a page."""


@dataclass(frozen=True, slots=True)
class _Meaning:
    status: HTTPStatus
    title: str
    meaning: str
    remedy: str


class ProblemType(Enum):
    """A type of problem (RFC 9457, section 3.1.1). Names and statuses are stable; sentences may change."""

    MALFORMED_REQUEST = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Malformed request",
        "The request is not HTTP/1.1, its header or chunks are malformed, or its body broke off.",
        "Send a complete HTTP/1.1 request.",
    )
    INVALID_PARAMETER = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid parameter",
        "A parameter in the address is unknown, or has a value that it cannot have.",
        "Correct or remove the parameter that `detail` names.",
    )
    INVALID_HEADER = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid header",
        "A header field of an upload is malformed or was sent more than once.",
        "Correct the header field that `detail` names.",
    )
    INVALID_CAMERA_ID = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid camera id",
        "The text cannot be the id of a camera.",
        "Use 1 to 64 bytes of letters, digits, spaces and `. _ - : , ( ) @`, beginning with a letter or "
        "digit.",
    )
    INVALID_BODY = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid body",
        "The body is not the JSON document or form that the call takes.",
        "Correct the member or part that `detail` names.",
    )
    INVALID_ENCODING = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid encoding",
        "The body is not encoded as its header declares.",
        "Encode the body as declared, or send it without an encoding.",
    )
    EMPTY_IMAGE = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Empty image",
        "The image has no bytes.",
        "Send the image's bytes.",
    )
    INVALID_UPLOAD = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Invalid upload",
        "The id of a direct upload is not one that the API gave to this API key.",
        "Use the id in the response to `POST /v1/uploads`.",
    )
    TOO_MANY_ITEMS = _Meaning(
        HTTPStatus.BAD_REQUEST,
        "Too many items",
        "The call names more files or ids than it may.",
        "Send them in several calls.",
    )
    KEY_REQUIRED = _Meaning(
        HTTPStatus.UNAUTHORIZED,
        "API key required",
        "The call needs an API key, and the request has none.",
        "Send `Authorization: Bearer KEY`.",
    )
    INVALID_KEY = _Meaning(
        HTTPStatus.UNAUTHORIZED,
        "Invalid API key",
        "The API key is unknown, revoked or expired.",
        "Use another key.",
    )
    INSUFFICIENT_SCOPE = _Meaning(
        HTTPStatus.FORBIDDEN,
        "Insufficient scope",
        "The API key lacks the scope that the call needs.",
        "Use a key with the scope that `detail` names.",
    )
    CAMERA_FORBIDDEN = _Meaning(
        HTTPStatus.FORBIDDEN,
        "Camera forbidden",
        "The API key is bound to other cameras than the call is about.",
        "Name a camera of the key, or use another key.",
    )
    CROSS_SITE_REQUEST = _Meaning(
        HTTPStatus.FORBIDDEN,
        "Cross-site request",
        "A page of another site made the browser send the request.",
        "Use this server's own page, or an API key.",
    )
    FOREIGN_HOST = _Meaning(
        HTTPStatus.FORBIDDEN,
        "Foreign host name",
        "Without API keys the server accepts only its own machine's names in `Host`.",
        "Use http://127.0.0.1 or http://localhost, or make an API key.",
    )
    ROUTE_NOT_FOUND = _Meaning(
        HTTPStatus.NOT_FOUND,
        "No such route",
        "The path is not one of the API's.",
        "Use a path of `/openapi.json`.",
    )
    JOB_NOT_FOUND = _Meaning(
        HTTPStatus.NOT_FOUND,
        "No such job",
        "The job was never accepted, its record has expired, or another key sent it.",
        "Use the id in the response to the upload.",
    )
    CAMERA_NOT_FOUND = _Meaning(
        HTTPStatus.NOT_FOUND,
        "No such camera",
        "No image, report or description of the camera came, or it was renamed or deleted.",
        "Use an id that `GET /v1/cameras` lists.",
    )
    UPLOADS_OFF = _Meaning(
        HTTPStatus.NOT_FOUND,
        "Direct uploads are off",
        "The server does not know the address at which clients reach its storage.",
        "Send the bytes to `/v1/images`, or let the operator set `WASTESTREAM_S3_PUBLIC_ENDPOINT`.",
    )
    UPLOAD_MISSING = _Meaning(
        HTTPStatus.NOT_FOUND,
        "Upload missing",
        "The image of a direct upload has not arrived in storage.",
        "Put it with the upload's URL, then complete the upload again.",
    )
    WEBHOOK_NOT_FOUND = _Meaning(
        HTTPStatus.NOT_FOUND,
        "No such webhook",
        "The webhook was never made, or it was deleted.",
        "Use an id that `GET /v1/webhooks` lists.",
    )
    METHOD_NOT_ALLOWED = _Meaning(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "Method not allowed",
        "The path has another method.",
        "Use a method of the response's `Allow`.",
    )
    REQUEST_TOO_SLOW = _Meaning(
        HTTPStatus.REQUEST_TIMEOUT,
        "Request too slow",
        "The header took more than 10 seconds; or the body stalled for 20 seconds, was slower than 32 kB a "
        "second after the first 20, or took more than 10 minutes.",
        "Send the request again on a faster connection, or fewer images at a time.",
    )
    CAMERA_BUSY = _Meaning(
        HTTPStatus.CONFLICT,
        "Camera is busy",
        "Jobs of the camera have not settled, so it can be neither renamed nor deleted.",
        "Stop its sender, then wait for the jobs, or cancel them.",
    )
    CAMERA_EXISTS = _Meaning(
        HTTPStatus.CONFLICT,
        "Camera exists",
        "Another camera has the new name.",
        "Use another name, or send `merge` to add the counts of the one camera to those of the other.",
    )
    JOB_SETTLED = _Meaning(
        HTTPStatus.CONFLICT,
        "Job has settled",
        "The job has settled, so it can no longer be cancelled.",
        "Read its state.",
    )
    JOB_NOT_RETRYABLE = _Meaning(
        HTTPStatus.CONFLICT,
        "Job cannot be retried",
        "The job has neither failed nor expired.",
        "Read its state; retry only failed and expired jobs.",
    )
    IMAGE_GONE = _Meaning(
        HTTPStatus.GONE,
        "Image no longer stored",
        "The job's image was deleted when its retention ended.",
        "Fetch images earlier, or raise `WASTESTREAM_IMAGE_RETENTION_HOURS`.",
    )
    CURSOR_EXPIRED = _Meaning(
        HTTPStatus.GONE,
        "Cursor expired",
        "Results after this cursor are no longer kept.",
        "Read older results from the archive, and go on after the cursor in `oldest`.",
    )
    UPLOAD_EXPIRED = _Meaning(
        HTTPStatus.GONE,
        "Upload expired",
        "The direct upload was announced too long ago to be completed.",
        "Announce the image again, put it with the new URL, and complete the new upload.",
    )
    BODY_TOO_LARGE = _Meaning(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        "Body too large",
        "The body, or an image in it, has more bytes than the call takes.",
        "Send smaller images, or fewer at a time.",
    )
    UNSUPPORTED_IMAGE = _Meaning(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Unsupported image",
        "The bytes are not a JPEG, PNG or WebP image.",
        "Send one of these.",
    )
    MEDIA_TYPE_MISMATCH = _Meaning(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Media type mismatch",
        "`Content-Type` declares another image type than the bytes have.",
        "Declare the type of the bytes, or none.",
    )
    UNSUPPORTED_ENCODING = _Meaning(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Unsupported encoding",
        "The body has an encoding that is unknown, or that no header declares.",
        "Send gzip, deflate or base64 and declare it, or none.",
    )
    UNSUPPORTED_BODY = _Meaning(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "Unsupported body",
        "The `Content-Type` of the body is not the one that the call takes.",
        "Send the media type that `detail` names.",
    )
    DAMAGED_IMAGE = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Damaged image",
        "The image's bytes break off or contradict themselves.",
        "Send the image again; if that fails too, the camera writes damaged files.",
    )
    IMAGE_TOO_LARGE = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Image too large",
        "The image has more pixels or parts than the limits allow.",
        "Send it at a smaller size.",
    )
    SIZE_MISMATCH = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Size mismatch",
        "The image of a direct upload has more or fewer bytes than were announced.",
        "Announce the image again with the size that it has.",
    )
    INVALID_TIME = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Time out of range",
        "The time of capture is before 1970, or more than 5 minutes ahead of the server's clock.",
        "Set the camera's clock, or omit the time.",
    )
    TOO_MANY_CAMERAS = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Too many cameras",
        "The upload names a new camera, and the limit of cameras is reached.",
        "Use a known camera's id, or let the operator forget cameras or raise the limit.",
    )
    TARGET_REFUSED = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Target refused",
        "The webhook's host has no address, or none that webhooks may be sent to.",
        "Use a public host, or let the operator allow its network (`WASTESTREAM_WEBHOOK_NETWORKS`).",
    )
    TOO_MANY_WEBHOOKS = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Too many webhooks",
        "There are as many webhooks as there may be.",
        "Delete one first.",
    )
    IDEMPOTENCY_CONFLICT = _Meaning(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Idempotency key in use",
        "The idempotency key belongs to a different upload, or to one whose record has expired.",
        "Use a new key.",
    )
    QUEUE_FULL = _Meaning(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Queue full",
        "Too many jobs wait; nothing was accepted.",
        "Send the upload again after `Retry-After` seconds.",
    )
    RATE_LIMIT_EXCEEDED = _Meaning(
        HTTPStatus.TOO_MANY_REQUESTS,
        "Rate limit exceeded",
        "The API key has used up its rate limit; nothing was accepted.",
        "Send the upload again after `Retry-After` seconds.",
    )
    HEADER_TOO_LARGE = _Meaning(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
        "Header too large",
        "The request's header has more than 32 KiB.",
        "Send fewer or shorter header fields.",
    )
    SERVER_FAULT = _Meaning(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Fault of the server",
        "The request failed because of a fault of the server; its log has the cause.",
        "Report it with the `request_id`.",
    )
    SERVER_BUSY = _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Server busy",
        "Too many requests are in progress, of all clients or of this one.",
        "Send the request again after `Retry-After` seconds, and fewer at a time.",
    )
    SERVICE_UNAVAILABLE = _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Service unavailable",
        "Redis or storage is down or full.",
        "Send the request again after `Retry-After` seconds, an upload with the same idempotency key.",
    )
    DISK_FULL = _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Disk full",
        "The disk of Redis and storage is full, so no images are accepted.",
        "Send the request again later; the operator must free space.",
    )
    DATA_LOST = _Meaning(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Data lost",
        "Redis or storage lacks the data that belong to the other, so the API stays closed.",
        'The operator must decide: see docs/operations.md, "Lost data".',
    )

    @property
    def slug(self) -> str:
        """Name in the address of its page."""
        return self.name.lower().replace("_", "-")

    @property
    def uri(self) -> str:
        """Value of `type` in problem documents."""
        return PREFIX + self.slug

    @property
    def status(self) -> HTTPStatus:
        """Status of the responses."""
        return self.value.status

    @property
    def title(self) -> str:
        """Value of `title` in problem documents."""
        return self.value.title

    @property
    def meaning(self) -> str:
        """Cause, a sentence."""
        return self.value.meaning

    @property
    def remedy(self) -> str:
        """Remedy, a sentence."""
        return self.value.remedy
