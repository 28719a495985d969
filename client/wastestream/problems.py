"""Rejections by the server: one class for each type of problem (RFC 9457) that it documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from wastestream.errors import WastestreamError

_CLASSES: Final[dict[str, type[ApiError]]] = {}
"""Class by the last part of a problem's type."""


class ApiError(WastestreamError):
    """Raised when the server rejects a call, or one image of a bulk upload.

    Types of problems that this version does not know have this class itself.

    Attributes:
        type: the problem's type, a path on the server with a page about it, such as `/problems/queue-full`.
        title: a short text, the same for every problem of the type.
        status: of the response.
        detail: what is wrong, then what to do; the text of the error.
        request_id: for the server's log; None for one image of a bulk upload.
    """

    slug: ClassVar[str] = ""
    """Last part of the types of problems of this class."""

    def __init_subclass__(cls) -> None:
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


def problem_of(document: Mapping[str, Any], status: int) -> ApiError:
    """Return the error of a problem document.

    Args:
        document: the problem.
        status: for a document, perhaps of a gateway, that does not name one.

    Raises:
        TypeError, AttributeError: it is no JSON object.
    """
    kind, title = document.get("type", "about:blank"), document.get("title", "")
    error = _CLASSES.get(kind.rpartition("/")[2], ApiError)
    detail = document.get("detail") or title or f"The server answered {status}."
    return error(kind, title, document.get("status", status), detail, document.get("request_id"))
