"""Rejections by the server: one class for each type of problem (RFC 9457) that it documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, ClassVar, Final

from wastestream.errors import WastestreamError

_KEY_STATUSES: Final = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

_CLASSES: Final[dict[str, type[ApiError]]] = {}
"""Class by the last part of a problem's type."""


class ApiError(WastestreamError):
    """Raised when the server rejects a call, or one image of a bulk upload.

    Types of problems that this version does not know have this class itself.

    Attributes:
        type: the problem's type, a path on the server with a page about it, such as `/problems/queue-full`.
        title: a short text, the same for every problem of the type.
        status: of the response.
        detail: the cause, then the remedy; the text of the error.
        request_id: for the server's log; None for one image of a bulk upload.
    """

    slug: ClassVar[str] = ""
    """Last part of the problem's type: `queue-full` of `QueueFullError`; empty for base classes."""

    def __init_subclass__(cls, *, base: bool = False) -> None:
        if not base:
            cls.slug = "-".join(re.findall("[A-Z][a-z]*", cls.__name__.removesuffix("Error"))).lower()
            _CLASSES[cls.slug] = cls

    def __init__(
        self,
        problem_type: str,
        title: str,
        status: int,
        detail: str,
        request_id: str | None = None,
    ) -> None:
        super().__init__(problem_type, title, status, detail, request_id)
        self.type = problem_type
        self.title = title
        self.status = status
        self.detail = detail
        self.request_id = request_id

    def __str__(self) -> str:
        return self.detail


class KeyRejectedError(ApiError, base=True):
    """Raised when the server wants an API key, or another one: other calls are rejected as well."""


class MalformedRequestError(ApiError):
    """400: the request is not HTTP/1.1, its header or chunks are malformed, or its body broke off."""


class InvalidParameterError(ApiError):
    """400: a parameter in the address is unknown, or has a value that it cannot have."""


class InvalidHeaderError(ApiError):
    """400: a header field of an upload is malformed or was sent more than once."""


class InvalidCameraIdError(ApiError):
    """400: the text cannot be the id of a camera."""


class InvalidBodyError(ApiError):
    """400: the body is not the JSON document or form that the call takes."""


class InvalidEncodingError(ApiError):
    """400: the body is not encoded as its header declares."""


class EmptyImageError(ApiError):
    """400: the image has no bytes."""


class InvalidUploadError(ApiError):
    """400: the server gave this API key no direct upload with the id."""


class TooManyItemsError(ApiError):
    """400: the call names more files or ids than it may."""


class KeyRequiredError(KeyRejectedError):
    """401: the call needs an API key, and the request has none."""


class InvalidKeyError(KeyRejectedError):
    """401: the API key is unknown, revoked or expired."""


class InsufficientScopeError(KeyRejectedError):
    """403: the API key lacks the scope that the call needs."""


class CrossSiteRequestError(KeyRejectedError):
    """403: a page of another site made the browser send the request."""


class ForeignHostError(KeyRejectedError):
    """403: without API keys the server accepts only its own machine's names in `Host`."""


class CameraForbiddenError(ApiError):
    """403: the API key is bound to other cameras."""


class RouteNotFoundError(ApiError):
    """404: the path is not one of the API's."""


class JobNotFoundError(ApiError):
    """404: the job was never accepted, its record has expired, or another key sent it."""


class CameraNotFoundError(ApiError):
    """404: no image, report or description of the camera came, or it was renamed or deleted."""


class UploadsOffError(ApiError):
    """404: the server offers no direct uploads."""


class UploadMissingError(ApiError):
    """404: the image of a direct upload has not arrived in storage."""


class WebhookNotFoundError(ApiError):
    """404: the webhook was never made, or it was deleted."""


class MethodNotAllowedError(ApiError):
    """405: the path has another method."""


class RequestTooSlowError(ApiError):
    """408: the header or the body of the request came too slowly."""


class CameraBusyError(ApiError):
    """409: jobs of the camera have not settled, so it can be neither renamed nor deleted."""


class CameraExistsError(ApiError):
    """409: another camera has the new name."""


class JobSettledError(ApiError):
    """409: the job has settled, so it can no longer be cancelled."""


class JobNotRetryableError(ApiError):
    """409: the job is neither `failed` nor `expired`, so it cannot be repeated."""


class ImageGoneError(ApiError):
    """410: the job's image was deleted when its retention ended."""


class UploadExpiredError(ApiError):
    """410: the direct upload was announced too long ago."""


class CursorExpiredError(ApiError):
    """410: results after this cursor are no longer kept.

    Attributes:
        oldest: cursor with which to go on.
    """

    oldest: str = ""


class BodyTooLargeError(ApiError):
    """413: the body, or an image in it, has more bytes than the call takes."""


class UnsupportedImageError(ApiError):
    """415: the bytes are not a JPEG, PNG or WebP image."""


class MediaTypeMismatchError(ApiError):
    """415: `Content-Type` declares another image type than the bytes have."""


class UnsupportedEncodingError(ApiError):
    """415: the body has an encoding that is unknown, or that no header declares."""


class UnsupportedBodyError(ApiError):
    """415: the `Content-Type` of the body is not the one that the call takes."""


class DamagedImageError(ApiError):
    """422: the image's bytes break off or contradict themselves."""


class ImageTooLargeError(ApiError):
    """422: the image has more pixels or parts than the limits allow."""


class SizeMismatchError(ApiError):
    """422: the image of a direct upload has another size than was announced."""


class InvalidTimeError(ApiError):
    """422: the time of capture is before 1970, or more than 5 minutes ahead of the server's clock."""


class TooManyCamerasError(ApiError):
    """422: the upload names a new camera, and the limit of cameras is reached."""


class TargetRefusedError(ApiError):
    """422: the webhook's host has no address, or none that webhooks may be sent to."""


class TooManyWebhooksError(ApiError):
    """422: there are as many webhooks as there may be."""


class IdempotencyConflictError(ApiError):
    """422: the idempotency key belongs to a different upload, or to one whose record has expired."""


class QueueFullError(ApiError):
    """429: too many jobs wait; nothing was accepted."""


class RateLimitExceededError(ApiError):
    """429: the API key has used up its rate limit; nothing was accepted."""


class HeaderTooLargeError(ApiError):
    """431: the request's header has more than 32 KiB."""


class ServerFaultError(ApiError):
    """500: the request failed because of a fault of the server; its log has the cause."""


class ServerBusyError(ApiError):
    """503: too many requests are in progress, of all clients or of this one."""


class ServiceUnavailableError(ApiError):
    """503: redis or storage is down or full."""


class DiskFullError(ApiError):
    """503: the disk of Redis and storage is full, so no images are accepted."""


class DataLostError(ApiError):
    """503: redis or storage lacks the data that belong to the other, so the API stays closed."""


def problem_of(document: Mapping[str, Any], status: int) -> ApiError:
    """Return the error of a problem document.

    Args:
        document: the problem.
        status: for a document, perhaps of a gateway, that does not name one.

    Raises:
        TypeError, AttributeError: it is no JSON object.
    """
    kind, title = document.get("type", "about:blank"), document.get("title", "")
    unknown = KeyRejectedError if status in _KEY_STATUSES else ApiError
    error = _CLASSES.get(kind.rpartition("/")[2], unknown)
    detail = document.get("detail") or title or f"The server answered {status}."
    problem = error(kind, title, document.get("status", status), detail, document.get("request_id"))
    if isinstance(problem, CursorExpiredError):
        problem.oldest = str(document.get("oldest", ""))
    return problem
