"""Request ids: one per request, the client's own if it sends a sane one; in every answer and log line."""

from __future__ import annotations

import random
import re
from typing import Final

from flask import Flask, Response, g, request

HEADER: Final = "X-Request-ID"

_SANE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # what cannot spoil a log


def request_id() -> str:
    """Return the current request's id."""
    found: str = g.request_id
    return found


def register(app: Flask) -> None:
    """Give every request to `app` its id, and every answer the header."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    given = request.environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = given if _SANE.fullmatch(given) else f"{random.getrandbits(64):016x}"


def _end(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
