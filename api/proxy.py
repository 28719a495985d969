"""Reverse proxies in front of the API: what they say of the request that they were sent."""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix


def register(app: Flask, proxies: int) -> None:
    """Believe the `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` of so many proxies in a row.

    Each proxy appends its own to these headers. What stands before is the client's, and is not believed.
    """
    if proxies:
        app.wsgi_app = ProxyFix(  # type: ignore[method-assign]  # Flask's own way to add middleware
            app.wsgi_app, x_for=proxies, x_proto=proxies, x_host=proxies, x_prefix=proxies
        )
