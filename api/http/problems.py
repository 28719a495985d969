"""Errors as RFC 9457 problem details: a status, and a sentence that says what to do."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask, Response
from werkzeug.exceptions import HTTPException, NotFound

from api.http.repeats import Repeats
from api.http.request_id import request_id
from api.services import services
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

_repeats: Final = Repeats(logger)

RETRY_AFTER: Final = 2
"""Seconds after which a client may try again while a dependency is down."""

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


_UNAVAILABLE: Final = "The service cannot take or show images just now; try again in a moment."
_DISK_FULL: Final = "The service's disk is full, so it cannot take images just now; try again later."
_NO_ROUTE: Final = "There is nothing at this address; docs/api.md lists what there is."


class RequestError(WastestreamError):
    """Raised when a request itself is wrong; carries its status, and headers for the answer."""

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
        # What broke is for the operator's log; the client can only wait. A full disk may take Redis with it.
        return problem(status, _DISK_FULL if services().disk.shortage else _UNAVAILABLE)
    return problem(status, str(error))


def respond(document: dict[str, Any], retry_after: float = RETRY_AFTER) -> Response:
    """Return a problem document as a response; with 429 and 503, say when to come back, in seconds."""
    document = {**document, "request_id": request_id()}
    response = Response(json.dumps(document), document["status"], content_type="application/problem+json")
    if document["status"] in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
        response.headers["Retry-After"] = str(math.ceil(retry_after))
    return response


def register(app: Flask) -> None:
    """Make every error of `app` a problem document."""
    app.register_error_handler(WastestreamError, _on_ours)
    app.register_error_handler(HTTPException, _on_http)
    app.register_error_handler(Exception, _on_unexpected)


def _on_ours(error: WastestreamError) -> Response:
    document = problem_of(error)
    if document["status"] >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _repeats.warn(str(error), f" (request {request_id()})")
    response = respond(document, getattr(error, "retry_after", RETRY_AFTER))
    if isinstance(error, RequestError):
        response.headers.update(error.headers)
    return response


def _on_http(error: HTTPException) -> Response:
    detail = _NO_ROUTE if isinstance(error, NotFound) else error.description or ""
    response = respond(problem(error.code or 500, detail))
    for name, value in error.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value  # such as Allow with 405
    return response


def _on_unexpected(error: Exception) -> Response:
    logger.error("A request failed in an unforeseen way (request %s)", request_id(), exc_info=error)
    return respond(problem(500, "The request failed on our side; its cause is in the server's log."))
