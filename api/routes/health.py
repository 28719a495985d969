"""`/livez` and `/readyz`: is this process alive, and can it do its work."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response, jsonify

from api.auth.policy import may, public
from api.http.problems import RETRY_AFTER
from api.readiness import INSTALLATION, PARTS
from api.services import services
from core.redis.api_keys import Scope
from core.redis.workers import running_models

blueprint = Blueprint("health", __name__)


@blueprint.get("/livez")
@public
def livez() -> Response:
    """Answer while the process serves requests."""
    return jsonify({"status": "alive"})


@blueprint.get("/readyz")
@public
def readyz() -> tuple[Response, int, dict[str, str]]:
    """Say whether every dependency answers; 503 names the ones that fail.

    Who may read is also told why they fail, how many workers have been seen lately (`workers`) and what they
    run (`models`), how many jobs wait (`pending`) and whether the ledger agrees with the jobs that are really
    there (`balanced`). `warnings` name what needs the operator though this process can do its work.
    """
    deps = services()
    report, told = deps.readiness.report(), may(Scope.READ)
    checks = dict.fromkeys(PARTS, "ok")
    checks |= {
        # Without its data Redis knows nobody who may be told; and of what is lost nothing is secret.
        part: why if told or part == INSTALLATION else "fails"
        for part, why in report.failures.items()
    }
    body: dict[str, Any] = {"status": "ready" if report.ready else "not ready", "checks": checks}
    if report.warnings:
        body["warnings"] = {part: why if told else "warning" for part, why in report.warnings.items()}
    if told:
        balance = report.balance
        reports = {} if balance is None else deps.workers.reports()
        body["workers"] = len(reports)
        body["models"] = [
            {**model._asdict(), "workers": count} for model, count in sorted(running_models(reports).items())
        ]
        body["pending"] = None if balance is None else balance.waiting
        body["balanced"] = None if balance is None else balance.balanced
    if report.ready:
        return jsonify(body), HTTPStatus.OK, {}
    return jsonify(body), HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER)}
