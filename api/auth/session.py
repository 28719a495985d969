"""`/session`: the page signs in with an API key and keeps it in a cookie."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, jsonify, request

from api.auth.policy import (
    COOKIE,
    MAX_KEY_LENGTH,
    auth,
    needs_key,
    public,
    signed_in,
    unknown_key,
)
from api.auth.same_site import reject_cross_site
from api.http.body import JSON, accepts_body, read_json
from api.http.problems import RequestError
from core.redis.api_keys import Key

DAYS: Final = 30
"""How long a browser stays signed in, unless the key expires or is revoked earlier."""

_MAX_BYTES: Final = 4096  # fits a key with every character escaped; small, since anyone may send a body here


class _CookieOptions(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: str


blueprint = Blueprint("session", __name__, url_prefix="/session")


@blueprint.get("")
@public
def show() -> Response:
    """Respond with whether a key is needed, and with the key of this browser's session."""
    deps = auth()
    deps.integrity.check()
    if not needs_key(deps.settings, deps.key_cache):
        return jsonify({"required": False, "key": None, "cameras": None})
    return _session(signed_in(request, deps.key_cache))


@blueprint.post("")
@public
@accepts_body(_MAX_BYTES, JSON)
def sign_in() -> Response:
    """Check a key and set the cookie with it."""
    reject_cross_site(request)
    token = _token(read_json(_MAX_BYTES))
    auth().integrity.check()
    key = auth().key_cache.find(token)
    if key is None:
        raise unknown_key()
    response = _session(key)
    response.set_cookie(COOKIE, token, max_age=_seconds(key), **_cookie_options())
    return response


@blueprint.delete("")
@public
def sign_out() -> Response:
    """Delete the cookie."""
    reject_cross_site(request)
    response = _session(None)
    response.delete_cookie(COOKIE, **_cookie_options())
    return response


def _session(key: Key | None) -> Response:
    document = None if key is None else {"name": key.name, "scopes": sorted(key.scopes)}
    cameras = None if key is None else key.cameras
    response = jsonify({"required": True, "key": document, "cameras": cameras})
    response.headers["Cache-Control"] = "no-store"
    return response


def _token(body: Any) -> str:
    token = body.get("key") if isinstance(body, dict) else None
    if not isinstance(token, str) or not 0 < len(token.strip()) <= MAX_KEY_LENGTH:
        raise RequestError(HTTPStatus.BAD_REQUEST, 'Send the API key as JSON: {"key": "ws_..."}.')
    return token.strip()


def _seconds(key: Key) -> int:
    max_age = DAYS * 24 * 3600
    return max_age if key.expires_ms is None else min(max_age, math.ceil(key.expires_ms / 1000 - time.time()))


def _cookie_options() -> _CookieOptions:
    """Return options that limit the cookie to this page, below a proxy's prefix if there is one."""
    path = request.root_path or "/"
    return {"path": path, "secure": _is_https(), "httponly": True, "samesite": "Strict"}


def _is_https() -> bool:
    """Return whether the browser uses https, which behind a proxy only the browser may know."""
    return request.is_secure or request.headers.get("Origin", "").startswith("https://")
