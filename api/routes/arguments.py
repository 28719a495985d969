"""Arguments in paths."""

from __future__ import annotations

from flask import Flask
from werkzeug.routing import BaseConverter


class JobIdConverter(BaseConverter):
    """Any text but the names of calls beside the jobs, so that `GET /v1/jobs/query` is 405.

    A text that is no id gets a sentence of its own from the routes.
    """

    regex = "(?!(?:query|retry)$)[^/]+"
    part_isolating = True


def register(app: Flask) -> None:
    """Let the routes of `app` have arguments such as `<job:job_id>`."""
    app.url_map.converters["job"] = JobIdConverter
