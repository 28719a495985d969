"""Reverse proxies in front of the API: what they say of the request that they were sent."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}")


def client_address(environ: Mapping[str, Any], proxies: int) -> str:
    """Return the address of who sent a request, as the first of the proxies says; else the connection's."""
    told = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    first = told[-proxies].strip() if 0 < proxies <= len(told) else ""
    return first if _ADDRESS.fullmatch(first) else str(environ["REMOTE_ADDR"])


def register(app: Flask, proxies: int) -> None:
    """Believe the `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` of so many proxies in a row.

    Each proxy appends its own to these headers. What stands before is the client's, and is not believed.
    """
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's own way to add middleware
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
