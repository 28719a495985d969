"""The Flask application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Flask

from api.auth import policy
from api.http import default_headers, problems, proxy, request_id, route, trace
from api.http.body import MAX_JSON_BYTES
from api.openapi import operation
from api.routes import (
    arguments,
    cameras,
    events,
    images,
    jobs,
    ledger,
    metrics,
    pages,
    probes,
    reference,
    results,
    retries,
    session,
    uploads,
    webhooks,
)
from api.services import Services
from core import traces
from core.settings import Settings, load_settings


class _SyncFlask(Flask):
    """Flask for views and hooks that are no coroutines; it asks each of them each time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function itself."""
        return func


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; it connects to Redis and storage at its first request.

    Args:
        settings: instead of the environment's, for tests.

    Raises:
        SettingsError: a setting in the environment is invalid.
    """
    app = _SyncFlask(__name__, static_folder=None)  # `pages` serves the files, with its headers.
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False  # no call of the contract
    app.url_map.strict_slashes = False  # /v1/images/ is /v1/images
    settings = settings or load_settings()
    deps = app.extensions["wastestream"] = Services.open(settings)
    problems.register(app, deps.disk)
    traces.set_up(settings.otlp_endpoint, "wastestream-api")
    trace.register(app, traces.tracing)
    route.register(app)
    request_id.register(app)
    default_headers.register(app)
    policy.register(app, policy.Auth(settings, deps.key_cache, deps.integrity))
    operation.register(app)
    proxy.register(app, settings.trusted_proxies)
    arguments.register(app)
    for routes in (
        images,
        jobs,
        retries,
        results,
        events,
        webhooks,
        cameras,
        ledger,
        metrics,
        probes,
        session,
        uploads,
        reference,
        pages,
    ):
        app.register_blueprint(routes.blueprint)
    return app
