"""The OpenAPI 3.1 document, made of the routes' descriptions."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import groupby
from typing import Any, Final

from flask import Flask
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema
from werkzeug.routing import Rule

from api.auth.policy import COOKIE, is_by_camera, scope_of
from api.http.body import BodyRule
from api.http.default_headers import DEFAULTS
from api.http.problem_types import ProblemType
from api.http.request_id import HEADER as REQUEST_ID
from api.openapi.components import Components
from api.openapi.examples import curl, example
from api.openapi.headers import HEADERS
from api.openapi.operation import JSON, Answer, Body, Operation, operation_of
from api.schemas.base import AnyRequest, CameraArgument, JobId, Output, Slug, WebhookId
from api.schemas.problems import Problem

VERSION: Final = "1.0.0"
"""Version of the contract, by semantic versioning: see docs/api.md, "Versions"."""

PROBLEM_JSON: Final = "application/problem+json"

_REFERENCE: Final = "#/components/schemas/{model}"
_METHODS: Final = ("get", "post", "put", "delete")
_ARGUMENT: Final = re.compile(r"<(?:\w+:)?(\w+)>")

_ARGUMENTS: Final = {"camera": CameraArgument, "job_id": JobId, "slug": Slug, "webhook_id": WebhookId}
"""Types of the arguments in paths."""

EVERY_ROUTE: Final = (
    ProblemType.MALFORMED_REQUEST,
    ProblemType.INVALID_PARAMETER,
    ProblemType.REQUEST_TOO_SLOW,
    ProblemType.HEADER_TOO_LARGE,
    ProblemType.SERVER_FAULT,
    ProblemType.SERVER_BUSY,
)
"""Types of every operation."""

WITH_SCOPE: Final = (
    ProblemType.KEY_REQUIRED,
    ProblemType.INVALID_KEY,
    ProblemType.INSUFFICIENT_SCOPE,
    ProblemType.CROSS_SITE_REQUEST,
    ProblemType.FOREIGN_HOST,
    ProblemType.SERVICE_UNAVAILABLE,
    ProblemType.DISK_FULL,
    ProblemType.DATA_LOST,
)
"""Types of every operation that needs a scope."""

_NOT_BY_CAMERA: Final = (ProblemType.CAMERA_FORBIDDEN,)
_WITH_BODY: Final = (ProblemType.BODY_TOO_LARGE,)
_WITH_JSON: Final = (ProblemType.INVALID_BODY, ProblemType.UNSUPPORTED_BODY)

ELSEWHERE: Final = (ProblemType.ROUTE_NOT_FOUND, ProblemType.METHOD_NOT_ALLOWED)
"""Types that no operation responds with, because the request names none."""

_PROBLEM_HEADERS: Final = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.FORBIDDEN: ("WWW-Authenticate",),
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: ("Accept-Encoding",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After", "RateLimit-Policy", "RateLimit"),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}

_ABOUT: Final = (
    "Classifies images of waste as biodegradable or non-biodegradable. Upload images, then read their jobs. "
    "Errors are problem details (RFC 9457); `type` is stable. Within a major version, responses only gain "
    "members and problems, and requests only gain optional parameters and members: ignore members that you "
    "do not know."
)


def openapi_document(app: Flask) -> dict[str, Any]:
    """Return the document of an application's described routes."""
    operations = list(_operations(app))
    _, definitions = models_json_schema(
        [(model, _mode(model)) for model in sorted(_models(operations), key=_name)],
        by_alias=True,
        ref_template=_REFERENCE,
    )
    schemas, components = definitions["$defs"], Components()
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, described in operations:
        path = _ARGUMENT.sub(r"{\1}", rule.rule)
        parameters = dict(_parameters_of(rule, described))
        call = _operation(app, rule, described, schemas, components)
        sample = curl(method, path, {**call, "parameters": parameters.values()})
        references = [components.refer("parameters", name, each) for name, each in parameters.items()]
        call |= {"parameters": references, "x-codeSamples": [{"lang": "Shell", "source": sample}]}
        paths.setdefault(path, {})[method] = call
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wastestream",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            **components.finish(),
            "headers": HEADERS,
            "examples": {kind.slug: {"value": _example(kind)} for kind in ProblemType},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "API key. Before the first key is made, calls from the same machine "
                    "need none.",
                },
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "The page's sign-in.",
                },
            },
        },
    }


def problems_of(app: Flask, endpoint: str, described: Operation) -> list[ProblemType]:
    """Return the types of problems that an operation responds with, by status."""
    types = {*EVERY_ROUTE, *described.problems}
    if scope_of(app, endpoint) is not None:
        types.update(WITH_SCOPE)
        types.update(() if is_by_camera(app, endpoint) else _NOT_BY_CAMERA)
    if described.body is not None:
        types.update(_WITH_BODY)
        types.update(_WITH_JSON if described.body.model else ())
    return sorted(types, key=lambda kind: (kind.status, kind.slug))


def _operations(app: Flask) -> Iterator[tuple[Rule, str, Operation]]:
    """Yield rule, method and description of every described route, by path."""
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: rule.rule):
        described = operation_of(app, rule.endpoint)
        if described is not None:
            yield from (
                (rule, method, described) for method in _METHODS if method.upper() in (rule.methods or ())
            )


def _models(operations: Iterable[tuple[Rule, str, Operation]]) -> set[type[BaseModel]]:
    """Return the models of bodies. Those of parameters are written out where they are used."""
    models: set[type[BaseModel]] = {Problem}
    for _, _, described in operations:
        models.update(answer.model for answer in described.answers.values() if answer.model)
        if described.body and described.body.model:
            models.add(described.body.model)
    return models


def _name(model: type[BaseModel]) -> str:
    return model.__name__


def _mode(model: type[BaseModel]) -> JsonSchemaMode:
    return "serialization" if issubclass(model, Output) else "validation"


def _operation(
    app: Flask, rule: Rule, described: Operation, schemas: Mapping[str, Any], components: Components
) -> dict[str, Any]:
    """Return the description of an operation, without its parameters."""
    summary, _, description = inspect.cleandoc(app.view_functions[rule.endpoint].__doc__ or "").partition(
        "\n\n"
    )
    scope = scope_of(app, rule.endpoint)
    document: dict[str, Any] = {
        "operationId": described.name,
        "tags": [rule.endpoint.partition(".")[0]],
        "summary": summary.rstrip("."),
        "description": " ".join(description.split()),
    }
    if scope is not None:
        document["description"] = f"{document['description']} Scope: `{scope.value}`.".strip()
        document["x-scope"] = scope.value
    if described.item_problems:
        document["x-item-problems"] = sorted(kind.uri for kind in described.item_problems)
    document["security"] = [] if scope is None else [{"key": []}, {"session": []}]
    if described.body is not None:
        document["requestBody"] = {
            "description": f"At most {_max_bytes(app.view_functions[rule.endpoint]):,} bytes.",
            "required": True,
            "content": _content(described.body, schemas),
        }
    problems = problems_of(app, rule.endpoint, described)
    document["responses"] = {
        **{str(status): _response(answer, schemas) for status, answer in described.answers.items()},
        **_problem_responses(problems, described.answers, schemas, components),
    }
    return document


def _parameters_of(rule: Rule, described: Operation) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each parameter among the components, and its description."""
    yield from _path_parameters(rule)
    yield from _parameters(described.query, "query")
    yield from _parameters(described.headers, "header")
    yield from _parameters(AnyRequest, "header")


def _path_parameters(rule: Rule) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in _ARGUMENT.findall(rule.rule):
        schema = TypeAdapter(_ARGUMENTS[name]).json_schema()
        yield name, {"name": name, "in": "path", "required": True, **_described(schema)}


def _parameters(model: type[BaseModel] | None, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if model is None:
        return
    schema = model.model_json_schema(by_alias=True)
    for field, name in ((field, info.alias or field) for field, info in model.model_fields.items()):
        member = schema["properties"][name]
        member.pop("title", None)
        # Models share the parameters of their base classes.
        owner = next(base for base in model.__mro__ if field in inspect.get_annotations(base))
        yield (
            f"{owner.__name__}.{name}",
            {
                "name": name,
                "in": place,
                "required": name in schema.get("required", ()),
                **_described(_without_null(_inlined(member, schema.get("$defs", {})))),
            },
        )


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's description, example and schema."""
    parameter: dict[str, Any] = {}
    if description := schema.pop("description", None):
        parameter["description"] = description
    if examples := schema.pop("examples", None):
        parameter["example"] = examples[0]
    return {**parameter, "schema": schema}


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """Return a schema with the definitions in place of references to them."""
    if isinstance(schema, list):
        return [_inlined(item, definitions) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    return {name: _inlined(member, definitions) for name, member in schema.items()}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional parameter: it is left out, and cannot be null."""
    schema = {name: member for name, member in schema.items() if (name, member) != ("default", None)}
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **schema}
    return {**schema, "anyOf": choices} if choices else schema


def _max_bytes(view: Any) -> int:
    """Return the limit of the bodies that a view accepts; see `api.http.body.accepts_body`."""
    body_rule: BodyRule = view.body_rule
    return body_rule.max_bytes


def _content(body: Body, schemas: Mapping[str, Any]) -> dict[str, Any]:
    if body.model is not None:
        return {JSON: _json(body.model, schemas)}
    parts = {part: {"contentType": ", ".join(kinds)} for part, kinds in body.part_types.items()}
    encoding = {"encoding": parts} if parts else {}
    return {kind: {"schema": schema, **encoding} for kind, schema in body.media_types.items()}


def _json(model: type[BaseModel], schemas: Mapping[str, Any]) -> dict[str, Any]:
    schema = _reference(model)
    return {"schema": schema, "example": example(schema, schemas)}


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=model.__name__)}


def _response(answer: Answer, schemas: Mapping[str, Any]) -> dict[str, Any]:
    response: dict[str, Any] = {"description": answer.description, "headers": _headers(answer.headers)}
    sample = {"example": answer.example} if answer.example else {}
    content: dict[str, Any] = {
        kind: {"schema": {"type": "object" if kind == JSON else "string"}, **sample}
        for kind in answer.media_types
    }
    if answer.model is not None:
        content = {JSON: _json(answer.model, schemas), **content}
    return {**response, "content": content} if content else response


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (REQUEST_ID, *DEFAULTS, *names)}


def _problem_responses(
    types: Iterable[ProblemType],
    answers: Mapping[int, Answer],
    schemas: Mapping[str, Any],
    components: Components,
) -> dict[str, dict[str, Any]]:
    """Return the responses with problems, by status, beside other responses with the same status."""
    responses: dict[str, dict[str, Any]] = {}
    for status, kinds in groupby(types, key=lambda kind: kind.status):
        members = list(kinds)
        other = answers.get(status, Answer(""))
        names = " ".join(f"`{kind.slug}`: {kind.meaning}" for kind in members)
        response = _response(replace(other, description=f"{other.description} {names}".strip()), schemas)
        response["headers"] |= _headers(_PROBLEM_HEADERS.get(status, ()))
        content = response.setdefault("content", {})
        content[PROBLEM_JSON] = {
            "schema": {
                "allOf": [
                    _reference(Problem),
                    {
                        "properties": {
                            "type": {"enum": [kind.uri for kind in members]},
                            "status": {"const": int(status)},
                        }
                    },
                ]
            },
            "examples": {kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in members},
        }
        name = "Or".join(kind.slug.title().replace("-", "") for kind in members)
        responses[str(int(status))] = (
            response if status in answers else components.refer("responses", name, response)
        )
    return responses


def _example(kind: ProblemType) -> dict[str, Any]:
    return Problem(
        type=kind.uri,
        title=kind.title,
        status=int(kind.status),
        detail=f"{kind.meaning} {kind.remedy}",
        request_id="8c1f0e6d2b7a4935",
    ).model_dump(exclude_unset=True)
