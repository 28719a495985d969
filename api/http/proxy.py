"""Reverse proxies in front of the API, and the headers in which they forward a request's origin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

_ADDRESS: Final = re.compile(r"[0-9A-Fa-f.:]{2,45}")


def client_address(environ: Mapping[str, Any], proxies: int) -> str:
    """Return the client's address as the first trusted proxy forwards it; otherwise the connection's."""
    forwarded = environ.get("HTTP_X_FORWARDED_FOR", "").split(",")
    address = forwarded[-proxies].strip() if 0 < proxies <= len(forwarded) else ""
    return address if _ADDRESS.fullmatch(address) else str(environ["REMOTE_ADDR"])


def register(app: Flask, proxies: int) -> None:
    """Trust the `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` of a chain of `proxies` proxies.

    Each proxy appends a value to these headers. Earlier values come from the client, and are not trusted.
    """
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's own way to add middleware
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
