"""Header fields of responses: schemas and descriptions for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

_TEXT: Final = {"type": "string"}

HEADERS: Final[dict[str, dict[str, Any]]] = {
    "X-Request-ID": {
        "description": "Id of the request, also in the server's log: the request's own `X-Request-ID`, if it "
        "is 1 to 64 letters, digits, `.`, `_` or `-`; otherwise a new one.",
        "schema": _TEXT,
        "example": "8c1f0e6d2b7a4935",
    },
    "Cache-Control": {
        "description": "Whether the response may be kept: `no-store`, but for the page and images, which "
        "must be revalidated.",
        "schema": _TEXT,
        "example": "no-store",
    },
    "Content-Security-Policy": {"description": "What a page may load: of others nothing.", "schema": _TEXT},
    "X-Content-Type-Options": {
        "description": "Browsers must not guess types.",
        "schema": {"const": "nosniff"},
    },
    "Referrer-Policy": {
        "description": "Browsers must not name the page.",
        "schema": {"const": "no-referrer"},
    },
    "Permissions-Policy": {"description": "What the page may use: this machine's camera.", "schema": _TEXT},
    "Location": {"description": "Path of the job.", "schema": {"type": "string", "format": "uri-reference"}},
    "Retry-After": {
        "description": "Seconds after which to send the request again.",
        "schema": {"type": "integer", "minimum": 0},
        "example": 2,
    },
    "RateLimit-Policy": {
        "description": "Burst that the API key may send at once, and the seconds in which it is full again "
        "(draft-ietf-httpapi-ratelimit-headers-10). Absent for keys without a limit.",
        "schema": _TEXT,
        "example": '"images";q=256;w=26',
    },
    "RateLimit": {
        "description": "Images left now, and the seconds until the burst is full again; with `r=0`, until "
        "one more image.",
        "schema": _TEXT,
        "example": '"images";r=224;t=4',
    },
    "Content-Disposition": {"description": "File name, of CSV.", "schema": _TEXT},
    "X-Accel-Buffering": {
        "description": "Proxies must pass events on at once.",
        "schema": {"const": "no"},
    },
    "ETag": {"description": "Tag of the image, which never changes.", "schema": _TEXT},
    "Set-Cookie": {"description": "Cookie with the key of the page's session.", "schema": _TEXT},
    "WWW-Authenticate": {"description": "Scheme, and what the key lacks.", "schema": _TEXT},
    "Allow": {"description": "Methods of the path.", "schema": _TEXT},
    "Accept-Encoding": {"description": "Encodings that uploads may have.", "schema": _TEXT},
}
"""By name."""
