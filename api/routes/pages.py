"""The page: people drop pictures and see their classes.

It is plain HTML with a style sheet and JavaScript modules, and uses the public API only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flask import Blueprint, Response, render_template

from api.auth.policy import public
from api.openapi.operation import Answer, operation
from api.routes.session import DAYS
from core.image_header import MAX_BYTES, MAX_PIXELS, MEDIA_TYPES

blueprint = Blueprint(
    "pages", "api", template_folder="templates", static_folder="static", static_url_path="/assets"
)

_STATIC: Final = Path(__file__).parents[1] / "static"

_MODULES: Final = sorted(path.name for path in _STATIC.glob("*.js") if path.name != "page.js")
"""Modules of the page's script. The page preloads them, so that browsers fetch all at the same time."""

_POLICY: Final = (
    "default-src 'none'",  # everything not listed is forbidden
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self' blob:",  # blob: the thumbnails that the script draws
    "connect-src 'self'",  # the API, at the same address
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
    "Cache-Control": "no-cache",  # Browsers may keep it, but must revalidate it.
}
"""Headers of the page and its assets."""

PAGE_HEADERS: Final = ("Referrer-Policy", "Permissions-Policy")
"""Headers that only the page and its assets have."""


@blueprint.get("/")
@public
@operation("showPage", {200: Answer("The page.", media_types=["text/html"], headers=PAGE_HEADERS)})
def page() -> str:
    """Show the page."""
    return render_template(
        "page.html",
        media_types=sorted(MEDIA_TYPES.values()),
        max_bytes=MAX_BYTES,
        max_megabytes=MAX_BYTES // 1024**2,
        max_megapixels=MAX_PIXELS // 1_000_000,
        session_days=DAYS,
        modules=_MODULES,
    )


@blueprint.after_request
def harden(response: Response) -> Response:
    """Add `HEADERS`, which allow nothing but the page's own files and the API."""
    response.headers.update(HEADERS)
    return response
