"""An answer, and how it travels."""

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
from api.http.problems import RETRY_AFTER, problem
from api.http.request_id import HEADER as REQUEST_ID

_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
_WITHOUT_BODY: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, header fields and body; `problem` says what was wrong, if not the application said so."""

    status: int
    fields: Sequence[tuple[str, str]]
    body: bytes
    problem: str = ""

    def encoded(self, *, keep_alive: bool, with_body: bool = True) -> bytes:
        """Return it as HTTP/1.1.

        Args:
            keep_alive: whether another request may follow on the connection.
            with_body: whether to send the body; to HEAD it is only described.
        """
        lines = [f"HTTP/1.1 {self.status} {_REASONS.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in self.fields]
        if self.status not in _WITHOUT_BODY and not any(
            name.lower() == "content-length" for name, _ in self.fields
        ):
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
"""The second for which a date was written last, and the date."""


def refusal(status: HTTPStatus, detail: str) -> Answer:
    """Return the problem document with which a request is answered that the application never sees."""
    request_id = f"{random.getrandbits(64):016x}"
    fields = [
        ("Content-Type", "application/problem+json"),
        *DEFAULTS.items(),
        (REQUEST_ID, request_id),
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append(("Retry-After", str(RETRY_AFTER)))
    document = {**problem(status, detail), "request_id": request_id}
    return Answer(int(status), fields, json.dumps(document).encode(), detail)


def run(application: Any, environ: dict[str, Any]) -> Answer:
    """Return what a WSGI application (PEP 3333) answers."""
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
    return Answer(int(status[:3]), fields, body)
