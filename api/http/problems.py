"""Errors as RFC 9457 problem details: a status, the cause, and the remedy."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response, current_app
from werkzeug.exceptions import HTTPException, NotFound

from api.http.log_limit import RateLimitedLog
from api.http.request_id import request_id
from core.disk import Disk
from core.errors import (
    BusyError,
    CameraIdError,
    CorruptImageError,
    DataLostError,
    DiskFullError,
    EvictionError,
    IdempotencyConflictError,
    ImageTooLargeError,
    JobNotFoundError,
    MissingRightsError,
    ObjectNotFoundError,
    QueueFullError,
    RateLimitError,
    RedisFullError,
    RedisUnavailableError,
    StorageUnavailableError,
    TooManyCamerasError,
    UnsupportedImageError,
    WastestreamError,
)

logger = logging.getLogger(__name__)

_log: Final = RateLimitedLog(logger)

_EXTENSION: Final = "wastestream.disk"

RETRY_AFTER: Final = 2
"""Seconds in `Retry-After` while a dependency is down."""

_STATUS: Final[dict[type[WastestreamError], HTTPStatus]] = {
    CameraIdError: HTTPStatus.BAD_REQUEST,
    UnsupportedImageError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    ImageTooLargeError: HTTPStatus.UNPROCESSABLE_ENTITY,
    CorruptImageError: HTTPStatus.UNPROCESSABLE_ENTITY,
    IdempotencyConflictError: HTTPStatus.UNPROCESSABLE_ENTITY,
    JobNotFoundError: HTTPStatus.NOT_FOUND,
    ObjectNotFoundError: HTTPStatus.NOT_FOUND,
    BusyError: HTTPStatus.SERVICE_UNAVAILABLE,
    DiskFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    StorageUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    RedisUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
    RedisFullError: HTTPStatus.SERVICE_UNAVAILABLE,
    DataLostError: HTTPStatus.SERVICE_UNAVAILABLE,
    EvictionError: HTTPStatus.SERVICE_UNAVAILABLE,
    MissingRightsError: HTTPStatus.SERVICE_UNAVAILABLE,
    TooManyCamerasError: HTTPStatus.UNPROCESSABLE_ENTITY,
    QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    RateLimitError: HTTPStatus.TOO_MANY_REQUESTS,
}


_UNAVAILABLE: Final = "The service is unavailable at the moment; try again shortly."
FAULT: Final = "The request failed because of a fault of the server; its log has the cause."
"""Details of a problem with status 500."""

_DISK_FULL: Final = "The service's disk is full, so it accepts no images at the moment; try again later."
_NO_ROUTE: Final = "There is no such route; see docs/api.md for the routes."


class RequestError(WastestreamError):
    """Raised when a request itself is wrong; carries status and headers of the response."""

    def __init__(self, status: HTTPStatus, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}


def problem(status: int, detail: str) -> dict[str, Any]:
    """Return the members of a problem document (RFC 9457, section 3.1)."""
    return {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
    }


def problem_of(error: WastestreamError) -> dict[str, Any]:
    """Return the problem document of one of our errors."""
    status = error.status if isinstance(error, RequestError) else _STATUS[type(error)]
    if status is HTTPStatus.SERVICE_UNAVAILABLE and not isinstance(error, BusyError | DataLostError):
        # The cause is for the operator's log; the client can only wait. A full disk may stop Redis as well.
        return problem(status, _DISK_FULL if _disk().shortage else _UNAVAILABLE)
    return problem(status, str(error))


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
    detail = _NO_ROUTE if isinstance(error, NotFound) else error.description or ""
    response = respond(problem(error.code or 500, detail))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value  # such as Allow with 405
    return response


def _on_unexpected_error(error: Exception) -> Response:
    logger.error("Unexpected error in request %s", request_id(), exc_info=error)
    return respond(problem(500, FAULT))
