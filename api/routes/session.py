"""`/session`: the page signs in with an API key and keeps it in a cookie."""

from __future__ import annotations

import math
import time
from typing import Final, TypedDict

from flask import Blueprint, Response, request

from api.auth.policy import (
    COOKIE,
    auth,
    needs_key,
    public,
    signed_in,
    unknown_key,
)
from api.auth.same_site import reject_cross_site
from api.http.body import JSON, accepts_body
from api.http.problem_types import ProblemType
from api.http.validation import read_document
from api.openapi.operation import Answer, Body, operation, respond_with
from api.schemas.session import Session, SessionKey, SignIn
from core.redis.api_keys import Key

DAYS: Final = 30
"""Days that a browser stays signed in, unless the key expires or is revoked earlier."""

_MAX_BYTES: Final = 4096  # fits a key with every character escaped; small, since anyone may send a body here


_PROBLEMS: Final = (ProblemType.CROSS_SITE_REQUEST, ProblemType.SERVICE_UNAVAILABLE, ProblemType.DATA_LOST)


class _CookieOptions(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: str


blueprint = Blueprint("session", __name__, url_prefix="/session")


@blueprint.get("")
@public
@operation("getSession", {200: Answer("The session.", Session)}, problems=_PROBLEMS)
def show() -> Response:
    """Read the session.

    Whether calls need a key, and name, scopes and cameras of the key of this call.
    """
    deps = auth()
    deps.integrity.check()
    if not needs_key(deps.settings, deps.key_cache):
        return respond_with(Session(required=False, key=None, cameras=None))
    return _session(signed_in(request, deps.key_cache))


@blueprint.post("")
@public
@accepts_body(_MAX_BYTES, JSON)
@operation(
    "signIn",
    {200: Answer("Signed in.", Session, headers=["Set-Cookie"])},
    problems=[ProblemType.INVALID_KEY, *_PROBLEMS],
    body=Body(SignIn),
)
def sign_in() -> Response:
    """Sign in.

    The page sends an API key and gets a cookie. Programs send `Authorization: Bearer KEY` instead.
    """
    reject_cross_site(request)
    token = read_document(SignIn, _MAX_BYTES).key
    auth().integrity.check()
    key = auth().key_cache.find(token)
    if key is None:
        raise unknown_key()
    response = _session(key)
    response.set_cookie(COOKIE, token, max_age=_seconds(key), **_cookie_options())
    return response


@blueprint.delete("")
@public
@operation("signOut", {200: Answer("Signed out.", Session, headers=["Set-Cookie"])}, problems=_PROBLEMS)
def sign_out() -> Response:
    """Sign out.

    Deletes the page's cookie.
    """
    reject_cross_site(request)
    response = _session(None)
    response.delete_cookie(COOKIE, **_cookie_options())
    return response


def _session(key: Key | None) -> Response:
    shown = None if key is None else SessionKey(name=key.name, scopes=sorted(key.scopes))
    cameras = None if key is None or key.cameras is None else list(key.cameras)
    return respond_with(Session(required=True, key=shown, cameras=cameras))


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
