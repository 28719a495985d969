"""`/livez` and `/readyz`: liveness and readiness probes."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from flask import Blueprint, Response

from api.auth.policy import may, public
from api.http.problems import RETRY_AFTER
from api.openapi.operation import Answer, operation, respond_with
from api.readiness import DEPENDENCIES, INSTALLATION
from api.schemas.probes import Liveness, Readiness, RunningModel, Sink
from api.services import services
from core.redis.api_keys import Scope
from core.redis.workers import running_models

blueprint = Blueprint("probes", __name__)


@blueprint.get("/livez")
@public
@operation("checkLiveness", {200: Answer("The process serves requests.", Liveness)})
def livez() -> Response:
    """Probe liveness."""
    return respond_with(Liveness(status="alive"))


@blueprint.get("/readyz")
@public
@operation(
    "checkReadiness",
    {
        200: Answer("Every dependency works.", Readiness),
        503: Answer("A dependency fails.", Readiness, headers=["Retry-After"]),
    },
)
def readyz() -> tuple[Response, int, dict[str, str]]:
    """Probe readiness.

    Checks every dependency, at most once a second. Callers with the scope `read` also get the reasons and the
    members after `paused`.
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
    if readiness.paused is not None:
        body["paused"] = list(readiness.paused)
    if may_read:
        balance = readiness.balance
        reports = {} if balance is None else deps.workers.reports()
        body["workers"] = len(reports)
        body["models"] = [
            RunningModel(**model._asdict(), workers=count)
            for model, count in sorted(running_models(reports).items())
        ]
        body["sinks"] = [] if balance is None else [Sink(**state._asdict()) for state in deps.sinks.states()]
        body["pending"] = None if balance is None else balance.waiting
        body["runnable"], body["oldest_seconds"] = (
            (None, None) if balance is None else deps.pending.runnable()
        )
        body["balanced"] = None if balance is None else balance.balanced
    response = respond_with(Readiness(**body))
    if readiness.ready:
        return response, HTTPStatus.OK, {}
    return response, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(RETRY_AFTER)}
