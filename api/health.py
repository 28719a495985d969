"""`/livez` and `/readyz`: is this process alive, and can it do its work."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from flask import Blueprint, Response, jsonify

from api.services import services
from core.errors import WastestreamError

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
def livez() -> Response:
    """Answer while the process serves requests."""
    return jsonify({"status": "alive"})


@blueprint.get("/readyz")
def readyz() -> tuple[Response, int]:
    """Ask every dependency; 503 names the ones that fail. `workers` is how many have been seen lately."""
    deps = services()
    checks = {"redis": _ask(deps.jobs.ping), "storage": _ask(deps.objects.ping)}
    ready = all(answer == "ok" for answer in checks.values())
    workers = len(deps.jobs.workers()) if checks["redis"] == "ok" else 0
    pending = deps.jobs.pending() if checks["redis"] == "ok" else None
    body = {
        "status": "ready" if ready else "not ready",
        "checks": checks,
        "workers": workers,
        "pending": pending,
    }
    return jsonify(body), HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE


def _ask(ping: Callable[[], None]) -> str:
    try:
        ping()
    except WastestreamError as error:
        return str(error)
    return "ok"
