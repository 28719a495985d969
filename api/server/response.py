"""HTTP responses on the wire, and the WSGI call that makes one."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

from api.http.default_headers import DEFAULTS
from api.http.problem_types import ProblemType
from api.http.problems import RETRY_AFTER, problem
from api.http.request_id import HEADER as REQUEST_ID
from api.routes.events import STREAM, StreamRequest

_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Response:
    """Status, header fields and body.

    `problem` is the error of a request that the server rejected itself; empty if the application responded.
    `stream` goes on after `body`, until the connection ends.
    """

    status: int
    fields: Sequence[tuple[str, str]]
    body: bytes
    problem: str = ""
    stream: StreamRequest | None = None

    def encoded(self, *, keep_alive: bool, with_body: bool = True) -> bytes:
        """Return the response as HTTP/1.1.

        Args:
            keep_alive: whether another request may follow on the connection.
            with_body: whether to include the body; a response to HEAD has only its length.
        """
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}"]
        has_length = any(name.lower() == "content-length" for name, _ in self.fields)
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.status not in _WITHOUT_BODY and not has_length and self.stream is None:
            lines.append(f"Content-Length: {len(self.body)}")
        lines += [
            f"Date: {_date(int(time.time()))}",
            f"Connection: {'keep-alive' if keep_alive else 'close'}",
        ]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head + self.body if with_body else head


def _date(second: int) -> str:
    if _latest[0] != second:
        _latest[:] = second, formatdate(second, usegmt=True)
    return str(_latest[1])


_latest: list[Any] = [0, ""]
"""Second of the latest `Date` header, and the header."""


def error_response(kind: ProblemType, detail: str) -> Response:
    """Return a problem document for a request that the server rejects without calling the application."""
    request_id = f"{random.getrandbits(64):016x}"
    fields = [
        ("Content-Type", "application/problem+json"),
        *DEFAULTS.items(),
        (REQUEST_ID, request_id),
    ]
    if kind.status is HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append(("Retry-After", str(RETRY_AFTER)))
    document = {**problem(kind, detail), "request_id": request_id}
    return Response(int(kind.status), fields, json.dumps(document).encode(), detail)


def call_wsgi(application: Any, environ: dict[str, Any]) -> Response:
    """Call a WSGI application (PEP 3333) and return its response."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, fields: list[tuple[str, str]], _error: Any = None) -> None:
        started.append((status, fields))

    parts: Iterable[bytes] = application(environ, start_response)
    try:
        body = b"".join(parts)
    finally:
        if hasattr(parts, "close"):
            parts.close()
    status, fields = started[-1]
    stream = environ.get(STREAM) if environ["REQUEST_METHOD"] == "GET" else None
    if stream is not None:
        fields = [(name, value) for name, value in fields if name.lower() != "content-length"]
    return Response(int(status[:3]), fields, body, stream=stream)
