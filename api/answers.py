"""What every answer of the API says to caches and browsers, unless a route says otherwise."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response, request

_DEFAULTS: Final = {
    "Cache-Control": "no-store",  # jobs and counts change, and are for whoever holds the key alone
    "X-Content-Type-Options": "nosniff",
}


def register(app: Flask) -> None:
    """Add the headers to the answers below `/v1/`."""
    app.after_request(_complete)


def _complete(response: Response) -> Response:
    if request.path.startswith("/v1/"):
        for name, value in _DEFAULTS.items():
            response.headers.setdefault(name, value)
    return response
