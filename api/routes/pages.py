"""The page for people: drop a picture, see what it shows.

It is plain HTML with one style sheet and one script, and talks to the public API only.
"""

from __future__ import annotations

from typing import Final

from flask import Blueprint, Response, render_template

from api.auth.policy import public
from api.auth.session import DAYS
from core.image_header import MAX_BYTES, MAX_PIXELS, MEDIA_TYPES

blueprint = Blueprint(
    "pages", "api", template_folder="templates", static_folder="static", static_url_path="/assets"
)

_POLICY: Final = (
    "default-src 'none'",  # what is not named here stays shut
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",  # blob: the thumbnails that the script draws
    "connect-src 'self'",  # the API, on this very address
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # the script never turns text into markup
)

HEADERS: Final = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",  # Browsers may keep it, but ask each time whether it is still this one.
}
"""Sent with the page and its assets, and with nothing else."""


@blueprint.get("/")
@public
def page() -> str:
    """Show the page."""
    return render_template(
        "page.html",
        media_types=sorted(MEDIA_TYPES.values()),
        max_bytes=MAX_BYTES,
        max_megabytes=MAX_BYTES // 1024**2,
        max_megapixels=MAX_PIXELS // 1_000_000,
        session_days=DAYS,
    )


@blueprint.after_request
def harden(response: Response) -> Response:
    """Add `HEADERS`, so that nothing but the page's own files can run, load or be called."""
    response.headers.update(HEADERS)
    return response
