"""`/session`: the page signs in with an API key, which its cookie keeps."""

from __future__ import annotations

import math
import time
from http import HTTPStatus
from typing import Any, Final, TypedDict

from flask import Blueprint, Response, jsonify, request

from api.auth.policy import (
    COOKIE,
    MAX_KEY_LENGTH,
    needs_key,
    public,
    refuse_other_sites,
    signed_in,
    unknown_key,
)
from api.http.body import JSON, read_json, takes
from api.http.problems import RequestError
from api.services import services
from core.redis.api_keys import Key

DAYS: Final = 30
"""How long a browser stays signed in, unless the key expires or is revoked before."""

_MAX_BYTES: Final = 4096  # a key, however it is escaped; anyone may send a body here, and it takes memory


class _CookieOptions(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: str


blueprint = Blueprint("session", __name__, url_prefix="/session")


@blueprint.get("")
@public
def show() -> Response:
    """Say whether a key is needed, and which one this browser has signed in with."""
    deps = services()
    deps.integrity.check()
    if not needs_key(deps.settings, deps.key_cache):
        return jsonify({"required": False, "key": None})
    return _said(signed_in(request, deps.key_cache))


@blueprint.post("")
@public
@takes(_MAX_BYTES, JSON)
def sign_in() -> Response:
    """Take a key and give the browser a cookie with it."""
    refuse_other_sites(request)
    token = _token(read_json(_MAX_BYTES))
    services().integrity.check()
    key = services().key_cache.find(token)
    if key is None:
        raise unknown_key()
    response = _said(key)
    response.set_cookie(COOKIE, token, max_age=_seconds(key), **_cookie_options())
    return response


@blueprint.delete("")
@public
def sign_out() -> Response:
    """Take the cookie back."""
    refuse_other_sites(request)
    response = _said(None)
    response.delete_cookie(COOKIE, **_cookie_options())
    return response


def _said(key: Key | None) -> Response:
    shown = None if key is None else {"name": key.name, "scopes": sorted(key.scopes)}
    response = jsonify({"required": True, "key": shown})
    response.headers["Cache-Control"] = "no-store"
    return response


def _token(body: Any) -> str:
    token = body.get("key") if isinstance(body, dict) else None
    if not isinstance(token, str) or not 0 < len(token.strip()) <= MAX_KEY_LENGTH:
        raise RequestError(HTTPStatus.BAD_REQUEST, 'Send the API key as JSON: {"key": "ws_..."}.')
    return token.strip()


def _seconds(key: Key) -> int:
    most = DAYS * 24 * 3600
    return most if key.expires_ms is None else min(most, math.ceil(key.expires_ms / 1000 - time.time()))


def _cookie_options() -> _CookieOptions:
    """Return for whom the cookie is: this page only, below the prefix that a proxy may have given it."""
    path = request.root_path or "/"
    return {"path": path, "secure": _is_https(), "httponly": True, "samesite": "Strict"}


def _is_https() -> bool:
    """Return whether the browser came by https; behind a proxy only the browser may know."""
    return request.is_secure or request.headers.get("Origin", "").startswith("https://")
