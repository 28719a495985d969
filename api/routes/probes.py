"""`/livez` and `/readyz`: liveness and readiness probes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify

from api.auth.policy import may, public
from api.http.problems import RETRY_AFTER
from api.readiness import DEPENDENCIES, INSTALLATION
from api.services import services
from core.redis.api_keys import Scope
from core.redis.workers import running_models

blueprint = Blueprint("probes", __name__)


@blueprint.get("/livez")
@public
def livez() -> Response:
    """Respond while the process serves requests."""
    return jsonify({"status": "alive"})


@blueprint.get("/readyz")
@public
def readyz() -> tuple[Response, int, dict[str, str]]:
    """Respond with the state of every dependency; 503 if one fails.

    `paused` has the paused lanes. Callers with the scope `read` also get the reasons, the number of workers
    seen lately (`workers`) and their models (`models`), the number of jobs not settled (`pending`), and
    whether the ledger agrees with the job records (`balanced`). `warnings` need an operator, although the
    API is ready.
    """
    deps = services()
    readiness, may_read = deps.readiness.run(), may(Scope.READ)
    checks = dict.fromkeys(DEPENDENCIES, "ok")
    checks |= {
        # A Redis that lost its data has no keys, so everyone gets this reason; it has no secrets.
        name: reason if may_read or name == INSTALLATION else "fails"
        for name, reason in readiness.failures.items()
    }
    body: dict[str, Any] = {"status": "ready" if readiness.ready else "not ready", "checks": checks}
    if readiness.warnings:
        body["warnings"] = {
            name: reason if may_read else "warning" for name, reason in readiness.warnings.items()
        }
    body["paused"] = list(readiness.paused)
    if may_read:
        balance = readiness.balance
        reports = {} if balance is None else deps.workers.reports()
        body["workers"] = len(reports)
        body["models"] = [
            {**model._asdict(), "workers": count} for model, count in sorted(running_models(reports).items())
        ]
        body["pending"] = None if balance is None else balance.waiting
        body["balanced"] = None if balance is None else balance.balanced
    if readiness.ready:
        return jsonify(body), HTTPStatus.OK, {}
    return jsonify(body), HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER)}
