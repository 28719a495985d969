"""The OpenAPI document as text: JSON, and Markdown for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from flask import Flask

from api.http.default_headers import DEFAULTS
from api.http.problem_types import ProblemType
from api.http.request_id import HEADER as REQUEST_ID
from api.openapi.components import resolved
from api.openapi.document import EVERY_ROUTE, WITH_SCOPE

EVERYWHERE: Final = (REQUEST_ID, *DEFAULTS)
"""Header fields of every response."""


def as_json(document: Mapping[str, Any]) -> str:
    """Return the document as it is served and kept."""
    return json.dumps(document, indent=1) + "\n"


def as_markdown(app: Flask, document: Mapping[str, Any]) -> str:
    """Return the reference; `app` has the template."""
    return app.jinja_env.get_template("reference.md").render(context(document))


def context(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variables of the templates of the reference."""
    return {
        "api": resolved(document),
        "everywhere": EVERYWHERE,
        "of_every_call": [kind.slug for kind in by_status(EVERY_ROUTE)],
        "with_scope": [kind.slug for kind in by_status(WITH_SCOPE)],
        "problems": by_status(ProblemType),
    }


def by_status(types: Iterable[ProblemType]) -> list[ProblemType]:
    """Return types of problems by status and name."""
    return sorted(types, key=lambda kind: (kind.status, kind.slug))
