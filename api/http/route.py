"""The route of a request: the server counts the response, and only the application knows the route."""

from __future__ import annotations

from typing import Any, Final

from flask import Flask, request

_ROUTE: Final = "wastestream.route"


def route_of(environ: dict[str, Any]) -> str | None:
    """Return the rule that serves a request, such as `/v1/jobs/<job_id>`; None if no rule does."""
    route: str | None = environ.get(_ROUTE)
    return route


def register(app: Flask) -> None:
    """Note the route of each request in its environment, before anything can reject it."""
    app.before_request(_note)


def _note() -> None:
    rule = request.url_rule
    if rule is not None:
        request.environ[_ROUTE] = rule.rule
