"""Access policy: every route declares `requires(SCOPE)` or `public`; without either it needs `admin`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flask import Flask, Request, current_app, g, request
from werkzeug.http import parse_cookie

from api.auth.key_cache import KeyCache
from api.auth.same_site import reject_cross_site, reject_foreign_host
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.integrity import Integrity
from core.errors import RedisUnavailableError, SettingsError, WastestreamError
from core.jobs import Job
from core.redis.admission import RateLimit
from core.redis.api_keys import MAX_KEY_LENGTH, Key, Scope
from core.settings import PREFIX, Settings

logger = logging.getLogger(__name__)

COOKIE: Final = "wastestream_key"
"""Cookie with the key with which the page signed in."""

_REALM: Final = 'Bearer realm="wastestream"'
_EXTENSION: Final = "wastestream.auth"

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Auth:
    """Basis of access decisions: settings, keys, and the state of the installation."""

    settings: Settings
    key_cache: KeyCache
    integrity: Integrity


def auth() -> Auth:
    """Return the `Auth` of the application that handles the current request."""
    registered: Auth = current_app.extensions[_EXTENSION]
    return registered


def requires(scope: Scope) -> Callable[[View], View]:
    """Restrict a route to keys with `scope`: `@blueprint.get("/x")` above, `@requires(Scope.READ)` below.

    Routes that show something need `READ`; routes that add or cancel images need `INGEST`, which gives no
    access to the jobs of other keys: see `api.routes.jobs.cancel`.
    """

    def mark(view: View) -> View:
        view.scope = scope  # type: ignore[attr-defined]
        return view

    return mark


def public(view: View) -> View:
    """Open a route to everyone."""
    view.scope = None  # type: ignore[attr-defined]
    return view


def by_camera(view: View) -> View:
    """Open a route to keys that are bound to cameras. Its view must be limited to their cameras.

    It asks `Caller.check_camera`, `Caller.sees` or `Caller.visible`. Other routes reject such keys.
    """
    view.by_camera = True  # type: ignore[attr-defined]
    return view


def is_by_camera(app: Flask, endpoint: str) -> bool:
    """Return whether keys that are bound to cameras may call an endpoint that needs a scope."""
    return getattr(app.view_functions[endpoint], "by_camera", False)


def scope_of(app: Flask, endpoint: str) -> Scope | None:
    """Return the scope that an endpoint needs; None if it is public."""
    if endpoint.rpartition(".")[2] == "static":  # Flask's own views
        return None
    scope: Scope | None = getattr(app.view_functions[endpoint], "scope", Scope.ADMIN)
    return scope


@dataclass(frozen=True, slots=True)
class Caller:
    """Sender of a request; without a key where none is needed."""

    key: Key | None = None
    limit: RateLimit | None = None

    @property
    def id(self) -> str:
        """Id of its key; empty without a key."""
        return self.key.id if self.key else ""

    @property
    def is_bound(self) -> bool:
        """Whether its key is for some cameras only."""
        return self.key is not None and self.key.cameras is not None

    def may(self, scope: Scope) -> bool:
        """Return whether it has `scope`."""
        return self.key is None or self.key.allows(scope)

    def sees(self, camera: str) -> bool:
        """Return whether it may send as this camera, and read its images and jobs."""
        return self.key is None or self.key.sees(camera)

    def check_camera(self, camera: str) -> None:
        """Check that it `sees` the camera.

        Raises:
            RequestError: 403.
        """
        if self.key is not None and not self.key.sees(camera):
            raise RequestError(
                ProblemType.CAMERA_FORBIDDEN,
                f"The key {self.key.name!r} is not for the camera {camera!r}; name one of its cameras, or "
                "use another key.",
            )

    def visible(self, job: Job | None) -> Job | None:
        """Return a job if it may see it; None if not, as for one that does not exist."""
        return job if job is not None and self.sees(job.camera) else None


_ANONYMOUS: Final = Caller()


def caller() -> Caller:
    """Return the sender of the current request."""
    sender: Caller = g.caller
    return sender


def register(app: Flask, auth: Auth) -> None:
    """Check every request to `app` before its route runs."""
    app.extensions[_EXTENSION] = auth
    app.before_request(_check)


def needs_key(settings: Settings, key_cache: KeyCache, *, ask: bool = True) -> bool:
    """Return whether callers need a key.

    Args:
        settings: of the process.
        key_cache: the keys.
        ask: whether to ask Redis if this process knows of no key.

    Raises:
        RedisUnavailableError: only Redis can tell, and it is down.
    """
    if settings.auth == "off":
        return False
    if settings.auth == "required" or settings.reachable:
        return True
    return key_cache.has_keys() if ask else key_cache.has_seen_keys


def check_address(settings: Settings, key_cache: KeyCache) -> None:
    """Check that the API may listen on the address in its settings; log who can call it.

    Raises:
        SettingsError: other machines could reach the API, and there is no API key.
    """
    if settings.auth == "off":
        logger.warning("%sAUTH is off: everyone who reaches %s has full access.", PREFIX, settings.host)
        return
    try:
        has_keys = key_cache.has_keys()
    except RedisUnavailableError as error:
        logger.warning("%s Until Redis is back, requests are answered with 503.", error)
        return
    if has_keys or (settings.auth == "required" and not settings.reachable):
        return
    if settings.reachable:
        raise SettingsError(
            f"The API would listen on {settings.host}, where others can reach it, and there is no API key. "
            "Start it on 127.0.0.1 first and run `wastestream keys create NAME --scope admin`, or set "
            f"{PREFIX}ADMIN_KEY_SHA256. {PREFIX}AUTH=off gives everyone access, for a proxy in front that "
            "authenticates."
        )
    logger.warning("There is no API key, so the API listens on this machine only (%s).", settings.host)


def _check() -> None:
    """Reject the current request, or store its caller in `g`."""
    if request.endpoint is None:
        return  # No such route: the response is the same for everyone.
    scope = scope_of(current_app, request.endpoint)
    if scope is not None:
        auth().integrity.check()
        g.caller = _authorize(scope)
        if g.caller.is_bound and not is_by_camera(current_app, request.endpoint):
            raise RequestError(
                ProblemType.CAMERA_FORBIDDEN,
                f"This call shows all cameras, but the key {g.caller.key.name!r} is for some; use another.",
            )


def may(scope: Scope) -> bool:
    """Return whether the sender of the current request has `scope`, for all cameras; for public routes."""
    try:
        return not _authorize(scope).is_bound
    except WastestreamError:  # also while Redis is down, and the sender is unknown
        return False


def _authorize(scope: Scope) -> Caller:
    """Return the sender of the current request; raise if it lacks `scope`."""
    deps = auth()
    if not needs_key(deps.settings, deps.key_cache):
        reject_cross_site(request)
        if deps.settings.auth != "off":
            reject_foreign_host(request)
        return _ANONYMOUS
    key = signed_in(request, deps.key_cache)
    if key is None:
        raise _unauthorized(request)
    _check_scope(key, scope)
    request.environ["wastestream.key"] = key.name  # for the access log
    return Caller(key, key.limit(deps.settings.key_rate, deps.settings.key_burst))


def check_scope(scope: Scope) -> None:
    """Check that the current request's caller also has `scope`, besides the scope of its route.

    Raises:
        RequestError: 403.
    """
    key = caller().key
    if key is not None:
        _check_scope(key, scope)


def _check_scope(key: Key, scope: Scope) -> None:
    if not key.allows(scope):
        raise RequestError(
            ProblemType.INSUFFICIENT_SCOPE,
            f"This call needs the scope {scope.value!r}, which the key {key.name!r} lacks; use another key.",
            {"WWW-Authenticate": f'{_REALM}, error="insufficient_scope", scope="{scope.value}"'},
        )


def signed_in(request: Request, key_cache: KeyCache) -> Key | None:
    """Return the valid key of a request, from `Authorization` or from the page's cookie; None without one.

    Raises:
        RequestError: 403, a page of another site sent the request with the cookie.
        RedisUnavailableError: Redis is down.
    """
    scheme, _, token = request.environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return _find(key_cache, token.strip())
    cookie = request.cookies.get(COOKIE)  # also if `Authorization` has the credentials of a proxy in front
    if cookie is None:
        return None
    reject_cross_site(request, needs_proof=True)
    return _find(key_cache, cookie)


def token_of(environ: Mapping[str, Any]) -> str:
    """Return the key that a request presents, valid or not; empty without one."""
    scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() == "bearer":
        return str(token.strip())
    cookies = environ.get("HTTP_COOKIE")
    return parse_cookie(cookies).get(COOKIE, "") if cookies else ""


def _find(key_cache: KeyCache, token: str) -> Key | None:
    return key_cache.find(token) if 0 < len(token) <= MAX_KEY_LENGTH else None


def _presents_key(request: Request) -> bool:
    """Return whether a request presents a key, valid or not."""
    return "Authorization" in request.headers or COOKIE in request.cookies


def _unauthorized(request: Request) -> RequestError:
    if _presents_key(request):
        return unknown_key()
    detail = "This call needs an API key: send it as `Authorization: Bearer KEY`, or sign in on the page."
    return RequestError(ProblemType.KEY_REQUIRED, detail, {"WWW-Authenticate": _REALM})


def unknown_key() -> RequestError:
    """Return the error for an invalid key. It does not tell the causes apart."""
    return RequestError(
        ProblemType.INVALID_KEY,
        "The API key is unknown, revoked or expired; use another.",
        {"WWW-Authenticate": f'{_REALM}, error="invalid_token"'},
    )
