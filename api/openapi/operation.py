"""Description of a route: its parameters, body, responses and problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from flask import Flask, Response, current_app, request
from pydantic import BaseModel

from api.http.problem_types import ProblemType
from api.http.validation import check_query

JSON: Final = "application/json"

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful response.

    Attributes:
        description: meaning of the response.
        model: of its JSON; None for another media type, or no body.
        media_types: of a body that is not JSON.
        headers: names of header fields, from `api.openapi.headers`.
        example: of a body that is not JSON.
    """

    description: str
    model: type[BaseModel] | None = None
    media_types: Sequence[str] = ()
    headers: Sequence[str] = ()
    example: str = ""


@dataclass(frozen=True, slots=True)
class Body:
    """Body of a request: the JSON of `model`, or the schema of each other media type.

    `part_types` has the media types of a form's parts, by field.
    """

    model: type[BaseModel] | None = None
    media_types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    part_types: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """Description of a route. The docstring of its view has the summary and the description.

    Attributes:
        name: its `operationId`, which generated clients call it by: camelCase, a verb first.
        answers: by status.
        problems: types that the route itself responds with; `api.openapi.document` adds those of all routes,
            of routes with a scope and of routes with a body.
        item_problems: types of the `error` of items in a successful response.
        query: parameters in the address; None for none. Others are rejected.
        headers: header fields that it reads.
        body: None for none.
    """

    name: str
    answers: Mapping[int, Answer]
    problems: Sequence[ProblemType] = ()
    item_problems: Sequence[ProblemType] = ()
    query: type[BaseModel] | None = None
    headers: type[BaseModel] | None = None
    body: Body | None = None


def operation(
    name: str,
    answers: Mapping[int, Answer],
    *,
    problems: Sequence[ProblemType] = (),
    item_problems: Sequence[ProblemType] = (),
    query: type[BaseModel] | None = None,
    headers: type[BaseModel] | None = None,
    body: Body | None = None,
) -> Callable[[View], View]:
    """Describe a route; see `Operation`. A route without a description is not part of the contract."""
    described = Operation(name, answers, problems, item_problems, query, headers, body)

    def mark(view: View) -> View:
        view.operation = described  # type: ignore[attr-defined]
        return view

    return mark


def operation_of(app: Flask, endpoint: str) -> Operation | None:
    """Return the description of an endpoint, None without one."""
    described: Operation | None = getattr(app.view_functions[endpoint], "operation", None)
    return described


def respond_with(model: BaseModel) -> Response:
    """Return a model as a JSON response, without the members that were never set."""
    return Response(model.model_dump_json(by_alias=True, exclude_unset=True), content_type=JSON)


def register(app: Flask) -> None:
    """Reject query parameters that a described route does not have."""
    app.before_request(_check_query)


def _check_query() -> None:
    if not request.environ.get("QUERY_STRING") or request.endpoint is None:
        return
    described = operation_of(current_app, request.endpoint)
    if described is not None:
        check_query(described.query)
