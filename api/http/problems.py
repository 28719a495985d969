"""Errors as RFC 9457 problem details: a status, the cause, and the remedy."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge

from api.http.log_limit import RateLimitedLog
from api.http.problem_types import ProblemType
from api.http.request_id import request_id
from core.disk import Disk
from core.errors import (
    BusyError,
    CameraBusyError,
    CameraExistsError,
    CameraIdError,
    CameraNotFoundError,
    CorruptImageError,
    CursorExpiredError,
    DataLostError,
    DiskFullError,
    EvictionError,
    IdempotencyConflictError,
    ImageTooLargeError,
    JobNotFoundError,
    MissingRightsError,
    NotReplicatedError,
    QueueFullError,
    RateLimitError,
    RedisFullError,
    RedisRejectedError,
    RedisUnavailableError,
    StorageUnavailableError,
    TooManyCamerasError,
    TooManyWebhooksError,
    UnsupportedImageError,
    WastestreamError,
    WebhookNotFoundError,
)

logger = logging.getLogger(__name__)

_log: Final = RateLimitedLog(logger)

_EXTENSION: Final = "wastestream.disk"

RETRY_AFTER: Final = 2
"""Seconds in `Retry-After` while a dependency is down."""

_TYPES: Final[dict[type[WastestreamError], ProblemType]] = {
    CameraIdError: ProblemType.INVALID_CAMERA_ID,
    UnsupportedImageError: ProblemType.UNSUPPORTED_IMAGE,
    ImageTooLargeError: ProblemType.IMAGE_TOO_LARGE,
    CorruptImageError: ProblemType.DAMAGED_IMAGE,
    IdempotencyConflictError: ProblemType.IDEMPOTENCY_CONFLICT,
    JobNotFoundError: ProblemType.JOB_NOT_FOUND,
    CursorExpiredError: ProblemType.CURSOR_EXPIRED,
    CameraNotFoundError: ProblemType.CAMERA_NOT_FOUND,
    CameraBusyError: ProblemType.CAMERA_BUSY,
    CameraExistsError: ProblemType.CAMERA_EXISTS,
    TooManyCamerasError: ProblemType.TOO_MANY_CAMERAS,
    TooManyWebhooksError: ProblemType.TOO_MANY_WEBHOOKS,
    WebhookNotFoundError: ProblemType.WEBHOOK_NOT_FOUND,
    QueueFullError: ProblemType.QUEUE_FULL,
    RateLimitError: ProblemType.RATE_LIMIT_EXCEEDED,
    BusyError: ProblemType.SERVER_BUSY,
    DataLostError: ProblemType.DATA_LOST,
    DiskFullError: ProblemType.DISK_FULL,
    StorageUnavailableError: ProblemType.SERVICE_UNAVAILABLE,
    RedisUnavailableError: ProblemType.SERVICE_UNAVAILABLE,
    RedisFullError: ProblemType.SERVICE_UNAVAILABLE,
    EvictionError: ProblemType.SERVICE_UNAVAILABLE,
    MissingRightsError: ProblemType.SERVICE_UNAVAILABLE,
    NotReplicatedError: ProblemType.SERVICE_UNAVAILABLE,
    RedisRejectedError: ProblemType.SERVICE_UNAVAILABLE,
}

_HTTP_TYPES: Final = {
    HTTPStatus.BAD_REQUEST: ProblemType.MALFORMED_REQUEST,
    HTTPStatus.NOT_FOUND: ProblemType.ROUTE_NOT_FOUND,
    HTTPStatus.METHOD_NOT_ALLOWED: ProblemType.METHOD_NOT_ALLOWED,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: ProblemType.BODY_TOO_LARGE,
}
"""Types of Werkzeug's own errors, which it raises for wrong routes, methods and bodies."""

_UNAVAILABLE: Final = "The service is unavailable at the moment; try again shortly."
_DISK_FULL: Final = "The service's disk is full, so it accepts no images at the moment; try again later."
_NO_ROUTE: Final = "There is no such route; /docs lists the routes."


class RequestError(WastestreamError):
    """Raised when a request itself is wrong; carries type and headers of the response."""

    def __init__(self, kind: ProblemType, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.kind = kind
        self.headers = headers or {}


def problem(kind: ProblemType, detail: str) -> dict[str, Any]:
    """Return the members of a problem document (RFC 9457, section 3.1)."""
    return {"type": kind.uri, "title": kind.title, "status": int(kind.status), "detail": detail}


def type_of(error: WastestreamError) -> ProblemType:
    """Return the type of one of our errors."""
    return error.kind if isinstance(error, RequestError) else _TYPES[type(error)]


def problem_of(error: WastestreamError) -> dict[str, Any]:
    """Return the problem document of one of our errors."""
    kind = type_of(error)
    if kind in {ProblemType.SERVICE_UNAVAILABLE, ProblemType.DISK_FULL}:
        # The cause is for the operator's log; the client can only wait. A full disk may stop Redis as well.
        if _disk().shortage:
            return problem(ProblemType.DISK_FULL, _DISK_FULL)
        return problem(ProblemType.SERVICE_UNAVAILABLE, _UNAVAILABLE)
    document = problem(kind, str(error))
    return {**document, "oldest": error.oldest} if isinstance(error, CursorExpiredError) else document


def _disk() -> Disk:
    disk: Disk = current_app.extensions[_EXTENSION]
    return disk


def respond(document: dict[str, Any], retry_after: float = RETRY_AFTER) -> Response:
    """Return a problem document as a response; 429 and 503 have `Retry-After`, in seconds."""
    document = {**document, "request_id": request_id()}
    response = Response(json.dumps(document), document["status"], content_type="application/problem+json")
    if document["status"] in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(math.ceil(retry_after))
    return response


def register(app: Flask, disk: Disk) -> None:
    """Make `app` respond to every error with a problem document.

    Args:
        app: the application.
        disk: named as the cause of an outage while it is full.
    """
    app.extensions[_EXTENSION] = disk
    app.register_error_handler(WastestreamError, _on_known_error)
    app.register_error_handler(HTTPException, _on_http_error)
    app.register_error_handler(Exception, _on_unexpected_error)


def _on_known_error(error: WastestreamError) -> Response:
    document = problem_of(error)
    if document["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.warn(str(error), f" (request {request_id()})")
    response = respond(document, getattr(error, "retry_after", RETRY_AFTER))
    if isinstance(error, RequestError):
        response.headers.update(error.headers)
    return response


def _on_http_error(error: HTTPException) -> Response:
    kind = _HTTP_TYPES.get(HTTPStatus(error.code or 500), ProblemType.SERVER_FAULT)
    response = respond(problem(kind, _detail(error, kind)))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value  # such as Allow with 405
    return response


def _detail(error: HTTPException, kind: ProblemType) -> str:
    """Return cause and remedy of one of Werkzeug's errors."""
    match error:
        case NotFound():
            return _NO_ROUTE
        case MethodNotAllowed():
            methods = sorted({*(error.valid_methods or ())} - {"HEAD"})
            return f"{request.method} is not a method of this path; use {' or '.join(methods)}."
        case RequestEntityTooLarge() if request.max_content_length is not None:
            return f"The body has more than {request.max_content_length:,} bytes; send less."
        case _:
            return f"{kind.meaning} {kind.remedy}"


def _on_unexpected_error(error: Exception) -> Response:
    logger.error("Unexpected error in request %s", request_id(), exc_info=error)
    return respond(problem(ProblemType.SERVER_FAULT, ProblemType.SERVER_FAULT.meaning))
