"""Traces of requests: a span for each, below that of the client."""

from __future__ import annotations

from flask import Flask, Response, g, request

from core.traces import Tracing


def register(app: Flask, tracing: Tracing | None) -> None:
    """Trace the requests to `app`, if traces are on; without them this adds nothing to a request."""
    if tracing is None:
        return

    def begin() -> None:
        route = request.url_rule
        name = f"{request.method} {route.rule}" if route is not None else request.method
        g.span = tracing.begin(name, request.environ.get("HTTP_TRACEPARENT", ""))

    def end(response: Response) -> Response:
        tracing.end(g.span, http_request_method=request.method, http_response_status=response.status_code)
        return response

    app.before_request(begin)
    app.after_request(end)
