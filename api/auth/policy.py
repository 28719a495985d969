"""Who may call what. Every route says it by `requires(SCOPE)` or `public`; else it needs `admin`."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from flask import Flask, Request, current_app, g, request
from werkzeug.http import parse_cookie

from api.auth.key_cache import KeyCache
from api.http.problems import RequestError
from api.services import services
from core.errors import RedisUnavailableError, SettingsError, WastestreamError
from core.redis.admission import RateLimit
from core.redis.api_keys import Key, Scope
from core.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

COOKIE: Final = "wastestream_key"
"""Holds the key with which the page has signed in."""

MAX_KEY_LENGTH: Final = 256
"""Characters of what is looked at as a key."""

_REALM: Final = 'Bearer realm="wastestream"'
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE: Final = frozenset({"same-origin", "none"})  # none: typed in by the person

View = TypeVar("View", bound=Callable[..., Any])


def requires(scope: Scope) -> Callable[[View], View]:
    """Let a route be called with `scope` only: `@blueprint.get("/x")` above, `@requires(Scope.READ)` below.

    What shows something takes `READ`; what brings images in or withdraws them takes `INGEST`, which gives no
    power over the jobs of others: see `api.routes.jobs.cancel`.
    """

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def public(view: View) -> View:
    """Let everyone call a route."""
    view.scope = None  # type: ignore[attr-defined]
    return view


def scope_of(app: Flask, endpoint: str) -> Scope | None:
    """Return what calling an endpoint needs; None for nothing."""
    if endpoint.rpartition(".")[2] == "static":  # Flask's own views
        return None
    scope: Scope | None = getattr(app.view_functions[endpoint], "scope", Scope.ADMIN)
    return scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends the request. Without a key: someone who needs none."""

    key: Key | None = None
    limit: RateLimit | None = None

    @property
    def id(self) -> str:
        """Id of its key, empty without one."""
        return self.key.id if self.key else ""

    def may(self, scope: Scope) -> bool:
        """Return whether it may do what needs `scope`."""
        return self.key is None or self.key.allows(scope)


_ANYONE: Final = Caller()


def caller() -> Caller:
    """Return who sends the current request."""
    found: Caller = g.caller
    return found


def register(app: Flask) -> None:
    """Check every request to `app` before anything else is done for it."""
    app.before_request(_check)


def needs_key(settings: Settings, key_cache: KeyCache, *, ask: bool = True) -> bool:
    """Return whether callers need a key.

    Args:
        settings: the process's.
        key_cache: the keys.
        ask: whether Redis may be asked; else what this process knows decides.

    Raises:
        RedisUnavailableError: it depends on the keys there are, and Redis is down.
    """
    if settings.auth == "off":
        return False
    if settings.auth == "required" or settings.reachable:
        return True
    return key_cache.any() if ask else key_cache.has_any


def check_address(settings: Settings, key_cache: KeyCache) -> None:
    """Return if the API may listen where its settings say, and say in the log who can call it.

    Raises:
        SettingsError: others could reach it, and there is no key by which to tell who they are.
    """
    if settings.auth == "off":
        logger.warning("%sAUTH is off: whoever reaches %s can do everything.", PREFIX, settings.host)
        return
    try:
        keys = key_cache.any()
    except RedisUnavailableError as error:
        logger.warning("%s Until it does, requests are answered with 503.", error)
        return
    if keys or (settings.auth == "required" and not settings.reachable):
        return
    if settings.reachable:
        raise SettingsError(
            f"The API would listen on {settings.host}, where others can reach it, and no API key is set. "
            "Let it listen on 127.0.0.1 first and run `wastestream keys create NAME --scope admin`, or set "
            f"{PREFIX}ADMIN_KEY_SHA256. {PREFIX}AUTH=off lets everyone in, for those with a proxy in front "
            "that asks."
        )
    logger.warning("No API key is set, so the API listens on this machine only (%s).", settings.host)


def _check() -> None:
    """Refuse the current request, or remember its caller."""
    if request.endpoint is None:
        return  # No such route: the answer is the same for everyone.
    scope = scope_of(current_app, request.endpoint)
    if scope is not None:
        services().integrity.check()
        g.caller = _admit(scope)


def may(scope: Scope) -> bool:
    """Return whether who sends the current request may do what needs `scope`, for routes that are public."""
    try:
        _admit(scope)
    except WastestreamError:  # also while Redis is down, so that nobody can say who it is
        return False
    return True


def _admit(scope: Scope) -> Caller:
    """Return who sends the current request, if they may."""
    deps = services()
    if not needs_key(deps.settings, deps.key_cache):
        _refuse_strange_pages(request, own_names_only=deps.settings.auth != "off")
        return _ANYONE
    key = signed_in(request, deps.key_cache)
    if key is None:
        raise _unauthorized(request)
    _check_scope(key, scope)
    request.environ["wastestream.key"] = key.name  # for the access log
    return Caller(key, key.limit(deps.settings.key_rate, deps.settings.key_burst))


def check_scope(scope: Scope) -> None:
    """Return if the current request's caller may do what needs `scope` too, besides what its route needs.

    Raises:
        RequestError: 403.
    """
    key = caller().key
    if key is not None:
        _check_scope(key, scope)


def _check_scope(key: Key, scope: Scope) -> None:
    if not key.allows(scope):
        raise RequestError(
            HTTPStatus.FORBIDDEN,
            f"This call needs the scope {scope.value!r}, which the key {key.name!r} lacks; use another key.",
            {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope.value}"'},
        )


def signed_in(request: Request, key_cache: KeyCache) -> Key | None:
    """Return the valid key that the request brings, in `Authorization` or in the page's cookie.

    Raises:
        RequestError: 403, another site's page sent the cookie along.
        RedisUnavailableError: Redis is down.
    """
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return _find(key_cache, token.strip())
    cookie = request.cookies.get(COOKIE)  # also when a proxy in front has credentials of its own there
    if cookie is None:
        return None
    refuse_other_sites(request, needs_proof=True)
    return _find(key_cache, cookie)


def token_in(environ: Mapping[str, Any]) -> str:
    """Return what a request brings as a key, good or not; empty if nothing."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token.strip())
    return parse_cookie(environ.get("HTTP_COOKIE", "")).get(COOKIE, "")


def _find(key_cache: KeyCache, token: str) -> Key | None:
    return key_cache.find(token) if 0 < len(token) <= MAX_KEY_LENGTH else None


def refuse_other_sites(request: Request, *, needs_proof: bool = False) -> None:
    """Return unless the page of another site made the browser send what changes something.

    Args:
        request: the request.
        needs_proof: whether to refuse as well where the browser does not say which page it was.

    Raises:
        RequestError: 403.
    """
    if request.method in _SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    if site is not None:  # Browsers send it over https and to localhost.
        own = site in _SAME_SITE
    elif origin is not None:
        own = origin in {f"http://{request.host}", f"https://{request.host}"}  # a proxy may end the https
    else:
        own = not needs_proof
    if not own:
        raise RequestError(
            HTTPStatus.FORBIDDEN, "The page of another site sent this; only this server's own page may."
        )


def _refuse_strange_pages(request: Request, *, own_names_only: bool) -> None:
    """Keep pages of other sites from using what is open to the person at this machine."""
    refuse_other_sites(request)
    if own_names_only and not _is_own_name(request.host):
        # A name of theirs that leads here would make their page one of ours to the browser.
        raise RequestError(
            HTTPStatus.FORBIDDEN,
            "Without API keys this server answers only to this machine's own names, such as "
            "http://127.0.0.1 or http://localhost. Make a key to use others: wastestream keys create.",
        )


@lru_cache(maxsize=64)  # every upload asks, nearly always the same
def _is_own_name(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _names_a_key(request: Request) -> bool:
    """Return whether the request brings something as a key, good or not."""
    return "Authorization" in request.headers or COOKIE in request.cookies


def _unauthorized(request: Request) -> RequestError:
    if _names_a_key(request):
        return unknown_key()
    detail = "This call needs an API key: send it as `Authorization: Bearer KEY`, or sign in on the page."
    return RequestError(HTTPStatus.UNAUTHORIZED, detail, {"WWW-Authenticate": _REALM})


def unknown_key() -> RequestError:
    """Return the error for a key that opens nothing. It does not say which of the causes it is."""
    return RequestError(
        HTTPStatus.UNAUTHORIZED,
        "The API key is none of this server's, or it was revoked, or it has expired.",
        {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
    )
