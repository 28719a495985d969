"""The OpenAPI document as text: JSON, and Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from flask import Flask

from api.http.default_headers import DEFAULTS
from api.http.problem_types import ProblemType
from api.http.request_id import HEADER as REQUEST_ID

EVERYWHERE: Final = (REQUEST_ID, *DEFAULTS)
"""Header fields of every response."""


def as_json(document: Mapping[str, Any]) -> str:
    """Return the document as it is served and kept."""
    return json.dumps(document, indent=1) + "\n"


def as_markdown(app: Flask, document: Mapping[str, Any]) -> str:
    """Return the reference; `app` has the template."""
    template = app.jinja_env.get_template("reference.md")
    return template.render(api=document, everywhere=EVERYWHERE, problems=by_status())


def by_status() -> list[ProblemType]:
    """Return all types of problems, by status and name."""
    return sorted(ProblemType, key=lambda kind: (kind.status, kind.slug))
