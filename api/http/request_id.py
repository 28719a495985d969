"""Request ids, in every response and log line: the client's own if it is safe to log, or a new one."""

from __future__ import annotations

import random
import re
from typing import Final

from flask import Flask, Response, g, request

from core import logs

HEADER: Final = "X-Request-ID"

_SAFE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # safe in a line of a log


def request_id() -> str:
    """Return the current request's id."""
    current: str = g.request_id
    return current


def register(app: Flask) -> None:
    """Give every request to `app` an id, and every response the header."""
    app.before_request(_begin)
    app.after_request(_end)


def _begin() -> None:
    own = request.environ.get("HTTP_X_REQUEST_ID", "")
    g.request_id = own if _SAFE.fullmatch(own) else f"{random.getrandbits(64):016x}"
    logs.request_id.set(g.request_id)


def _end(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
