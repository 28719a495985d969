"""The Flask application."""

from __future__ import annotations

from flask import Flask

from api import (
    access,
    answers,
    health,
    images,
    jobs,
    ledger,
    metrics,
    pages,
    problems,
    proxy,
    request_id,
    session,
)
from api.body import MOST_JSON_BYTES
from api.services import Services
from core.settings import Settings, load_settings


def create_app(settings: Settings | None = None) -> Flask:
    """Return the application; it connects to Redis and storage at its first request.

    Args:
        settings: instead of those of the environment, as tests do.

    Raises:
        SettingsError: the environment's settings cannot work.
    """
    app = Flask(__name__, static_folder=None)  # Files are the page's, with its headers.
    app.json.sort_keys = False  # type: ignore[attr-defined]  # documents read best in the order they are written
    app.config["MAX_CONTENT_LENGTH"] = MOST_JSON_BYTES
    app.url_map.strict_slashes = False  # /v1/images/ is /v1/images
    settings = settings or load_settings()
    app.extensions["wastestream"] = Services.open(settings)
    problems.register(app)
    request_id.register(app)
    answers.register(app)
    access.register(app)
    proxy.register(app, settings.trusted_proxies)
    for room in (images, jobs, ledger, metrics, health, session, pages):
        app.register_blueprint(room.blueprint)
    return app
