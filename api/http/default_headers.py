"""What every answer of the application says to caches and browsers, unless a route says otherwise."""

from __future__ import annotations

from typing import Final

from flask import Flask, Response

DEFAULTS: Final = {
    "Cache-Control": "no-store",  # jobs and counts change, and are for whoever holds the key alone
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",  # nothing here is a page
    "X-Content-Type-Options": "nosniff",
}


def register(app: Flask) -> None:
    """Add the headers to all answers of `app`."""
    app.after_request(_complete)


def _complete(response: Response) -> Response:
    for name, value in DEFAULTS.items():
        response.headers.setdefault(name, value)
    return response
