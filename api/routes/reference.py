"""`/openapi.json`, `/docs` and `/problems/...`: the contract, for programs and for people."""

from __future__ import annotations

from functools import cache
from http import HTTPStatus
from typing import Any, Final

from flask import Blueprint, Flask, Response, current_app, render_template
from werkzeug.exceptions import NotFound

from api.auth.policy import public
from api.http.problem_types import ProblemType
from api.openapi.document import openapi_document
from api.openapi.operation import Answer, operation
from api.openapi.reference import as_json, context
from api.openapi.text import anchor, code, type_text
from api.routes.pages import HEADERS, PAGE_HEADERS

blueprint = Blueprint("reference", __name__, template_folder="../templates")

for text_filter in (anchor, code, type_text):
    blueprint.add_app_template_filter(text_filter)

_HTML: Final = ["text/html"]


@cache
def _document(app: Flask) -> dict[str, Any]:
    return openapi_document(app)


@blueprint.get("/openapi.json")
@public
@operation("getOpenapiDocument", {200: Answer("The document.", media_types=["application/json"])})
def openapi() -> Response:
    """Read the OpenAPI document."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's own way
    return Response(as_json(_document(app)), content_type="application/json")


@blueprint.get("/docs")
@public
@operation("showReference", {200: Answer("The reference.", media_types=_HTML, headers=PAGE_HEADERS)})
def docs() -> Response:
    """Read the reference.

    The OpenAPI document as a page for people.
    """
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - Flask's own way
    return _page("reference.html", **context(_document(app)))


@blueprint.get("/problems/<slug>")
@public
@operation(
    "showProblemType",
    {200: Answer("The explanation.", media_types=_HTML, headers=PAGE_HEADERS)},
    problems=[ProblemType.ROUTE_NOT_FOUND],
)
def problem(slug: str) -> Response:
    """Read the explanation of a type of problem."""
    for kind in ProblemType:
        if kind.slug == slug:
            return _page("problem.html", problem=kind)
    raise NotFound


def _page(template: str, **variables: Any) -> Response:
    response = Response(
        render_template(template, **variables), HTTPStatus.OK, content_type="text/html; charset=utf-8"
    )
    response.headers.update(HEADERS)
    return response
