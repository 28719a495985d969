"""The OpenAPI document: valid, complete and true, by a walk through the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from werkzeug.routing import Rule

import api
from api.auth.policy import scope_of
from api.http.problem_types import ProblemType
from api.openapi.document import ELSEWHERE
from api.openapi.headers import HEADERS
from api.openapi.operation import Operation, operation_of
from tests.support.contract import TRANSPORT, app, contract

_SOURCES: Final = sorted(Path(api.__file__).parent.rglob("*.py"))

_DOCUMENT: Final = contract().document

_APP: Final = app()

NOT_DESCRIBED: Final = {"pages.static": "the page's own files: they change with each release of the page"}
"""Endpoints that the document leaves out, with the reason."""

IMPLICIT_METHODS: Final = {"HEAD", "OPTIONS"}
"""HEAD is GET without the body, in HTTP itself. OPTIONS of a path is answered 405, as other methods are."""

NOT_PARAMETERS: Final = {
    "Accept": "OpenAPI has it in the media types of responses",
    "Authorization": "a security scheme",
    "Content-Disposition": "of a form's part: the file's name",
    "Content-Type": "OpenAPI has it in the media types of bodies",
    "Cookie": "a security scheme",
    "Content-Length": "HTTP's own: how the body is framed",
    "Transfer-Encoding": "HTTP's own: how the body is framed",
    "Connection": "HTTP's own: whether the connection stays open",
    "Expect": "HTTP's own: whether to send the body",
    "Host": "HTTP's own: what the client connected to",
    "Origin": "browsers send it by themselves, and no page can change it",
    "Sec-Fetch-Site": "browsers send it by themselves, and no page can change it",
    "traceparent": "W3C's, for any request: the trace to which it belongs",
    "X-Forwarded-For": "the proxy in front sends it; a client's is not trusted",
    "X-Forwarded-Proto": "the proxy in front sends it; a client's is not trusted",
    "X-Forwarded-Host": "the proxy in front sends it; a client's is not trusted",
    "X-Forwarded-Prefix": "the proxy in front sends it; a client's is not trusted",
}
"""Header fields of requests that the code reads and no operation has as a parameter, with the reason."""

READ_BY_WERKZEUG: Final = {"make_conditional": "If-None-Match", "accept_mimetypes": "Accept"}
"""Attribute of a request or response to the header field that Werkzeug reads for it."""

SET_BY_FLASK: Final = {"set_cookie": "Set-Cookie", "set_etag": "ETag", "MethodNotAllowed": "Allow"}
"""What the code uses to the header field that Flask and Werkzeug set for it."""


def _described() -> Iterator[tuple[Rule, Operation]]:
    for rule in _APP.url_map.iter_rules():
        described = operation_of(_APP, rule.endpoint)
        if described is not None:
            yield rule, described


@cache
def _trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in _SOURCES}


def _strings(*, outside: str = "") -> set[str]:
    """Return every literal text in the API's code, but for docstrings and one folder."""
    texts: set[str] = set()
    for path, tree in _trees().items():
        if outside and outside in path.parts:
            continue
        prose = {
            id(node.value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        texts.update(
            node.value
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
        )
    return texts


def _names() -> set[str]:
    """Return every name and attribute in the API's code."""
    nodes = [node for tree in _trees().values() for node in ast.walk(tree)]
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names | {node.id for node in nodes if isinstance(node, ast.Name)}


def test_it_is_valid() -> None:
    """By the schemas of OpenAPI 3.1 and JSON Schema."""
    assert [str(error) for error in OpenAPIV31SpecValidator(_DOCUMENT).iter_errors()] == []


def test_it_has_every_route_and_no_other() -> None:
    """Path by path and method by method."""
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in _APP.url_map.iter_rules()
        if rule.endpoint not in NOT_DESCRIBED
        for method in (rule.methods or set()) - IMPLICIT_METHODS
    }
    assert {(path, method) for path, method, _ in contract().operations()} == routes


def test_every_operation_says_what_it_needs() -> None:
    """Scope, summary, statuses; identifiers are unique, and good names of functions."""
    names = [described["operationId"] for _, _, described in contract().operations()]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"[a-z]+([A-Z][a-z]+)+", name)] == []
    for rule, _ in _described():
        for method in (rule.methods or set()) - IMPLICIT_METHODS:
            described = contract().operation(method, re.sub(r"<(?:\w+:)?\w+>", "x", rule.rule))
            assert described is not None
            scope = scope_of(_APP, rule.endpoint)
            assert described.get("x-scope") == (scope and scope.value)
            assert bool(described["security"]) is (scope is not None)
            assert described["summary"]


def test_it_has_every_parameter_in_the_address() -> None:
    """Only `api.http.validation` reads them, by the model that the operation names."""
    readers = {
        path.name
        for path, tree in _trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and node.attr in {"args", "values"}
        and _is_name(node.value, "request")
    }
    assert readers == {"validation.py"}
    models = {described.query.__name__ for _, described in _described() if described.query}
    assert models == _arguments("read_query")


def test_it_has_every_member_of_json_bodies() -> None:
    """Views read the model that their operation names, and say how long a body may be."""
    models = {
        described.body.model.__name__
        for _, described in _described()
        if described.body and described.body.model
    }
    assert models == _arguments("read_document")
    for rule, described in _described():
        has_rule = hasattr(_APP.view_functions[rule.endpoint], "body_rule")
        assert has_rule is (described.body is not None), rule


def test_it_has_every_header_field_that_the_code_reads() -> None:
    """The code names no other; and what is described is read."""
    variables = {text for text in _strings() if re.fullmatch(r"HTTP_[A-Z_]+", text)}
    read = {name.removeprefix("HTTP_").replace("_", "-").lower() for name in variables}
    read |= {name.lower() for name in _looked_up()}
    read |= {field.lower() for used, field in READ_BY_WERKZEUG.items() if used in _names()}
    described = {parameter["name"].lower() for parameter in _parameters() if parameter["in"] == "header"}
    assert read - described <= {name.lower() for name in NOT_PARAMETERS}
    assert described <= read


def test_it_has_every_header_field_that_the_code_sets() -> None:
    """Each literal that looks like a header field is described, or excused above."""
    looks_so = re.compile(r"([A-Z][A-Za-z]*-)+[A-Z][A-Za-z]*|Location|RateLimit|Allow|ETag")
    literals = {text for text in _strings(outside="openapi") if looks_so.fullmatch(text)}
    parameters = {parameter["name"] for parameter in _parameters()}
    known = {name.lower() for name in {*HEADERS, *parameters, *NOT_PARAMETERS}} | set(TRANSPORT)
    assert {text for text in literals if text.lower() not in known} == set()
    implied = {field for used, field in SET_BY_FLASK.items() if used in _names() | {"MethodNotAllowed"}}
    assert set(HEADERS) <= literals | implied
    used = {
        name
        for _, _, operation in contract().operations()
        for response in operation["responses"].values()
        for name in response["headers"]
    }
    assert set(HEADERS) - used <= {"Allow"}  # of 405, which no operation responds with


def test_it_has_every_problem() -> None:
    """Each type is raised somewhere, and is of some operation, or of requests that name none."""
    raised = {
        node.attr
        for path, tree in _trees().items()
        if path.name != "problem_types.py"
        for node in _outside_decorators(tree)
        if isinstance(node, ast.Attribute) and _is_name(node.value, "ProblemType")
    }
    assert raised == {kind.name for kind in ProblemType}
    documented = {
        uri
        for _, _, operation in contract().operations()
        for response in operation["responses"].values()
        for media_type, content in response.get("content", {}).items()
        if media_type == "application/problem+json"
        for uri in content["schema"]["allOf"][1]["properties"]["type"]["enum"]
    }
    for _, _, operation in contract().operations():
        documented |= set(operation.get("x-item-problems", ()))
    assert documented | {kind.uri for kind in ELSEWHERE} == {kind.uri for kind in ProblemType}


def test_every_example_fits_its_schema() -> None:
    """Of parameters, bodies and responses; each parameter and member has a description."""
    for _, _, operation in contract().operations():
        for parameter in operation["parameters"]:
            assert parameter["description"], parameter
            if "example" in parameter:
                _check(parameter["schema"], parameter["example"])
        contents = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type, content in (item for each in contents for item in each.get("content", {}).items()):
            if media_type == "application/json" and "$ref" in content["schema"]:
                _check(content["schema"], content["example"])
    for name, schema in _DOCUMENT["components"]["schemas"].items():
        for member, described in schema.get("properties", {}).items():
            assert (
                described.get("description")
                or "const" in described
                or "$ref" in described
                or ("items" in described)
            ), (name, member)


def test_members_that_nobody_knows_are_errors_of_requests_only() -> None:
    """Later versions may add members to responses; a wrong member of a request is named."""
    for _, described in _described():
        sent = described.body.model if described.body else None
        for model in (sent, described.query):
            assert model is None or model.model_config.get("extra") == "forbid"
        for answer in described.answers.values():
            assert answer.model is None or answer.model.model_config.get("extra") != "forbid"


def test_models_are_named_once() -> None:
    """Two models of one name would be renamed in the document."""
    names: dict[str, type[BaseModel]] = {}
    for _, described in _described():
        answers = (answer.model for answer in described.answers.values())
        models = [model for model in (described.query, described.headers, *answers) if model is not None]
        assert all(names.setdefault(model.__name__, model) is model for model in models)


@pytest.mark.parametrize("kind", ProblemType, ids=lambda kind: kind.slug)
def test_every_problem_has_sentences(kind: ProblemType) -> None:
    """Its page has a title without a full stop, a cause and a remedy with one."""
    assert re.fullmatch(r"[A-Z][^.]+", kind.title)
    assert kind.meaning.endswith(".")
    assert kind.remedy.endswith(".")


def _parameters() -> Iterator[dict[str, Any]]:
    for _, _, operation in contract().operations():
        yield from operation["parameters"]


def _is_name(node: ast.expr, name: str) -> bool:
    return isinstance(node, ast.Name) and node.id == name


def _arguments(function: str) -> set[str]:
    """Return the names of the models with which the routes call a function."""
    return {
        argument.id if isinstance(argument := node.args[0], ast.Name) else argument.attr  # type: ignore[attr-defined]
        for tree in _trees().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_name(node.func, function)
    }


def _looked_up() -> Iterator[str]:
    """Yield the literals with which header fields are looked up: `headers.get("X")` and `"X" in headers`."""
    for node in (node for tree in _trees().values() for node in ast.walk(tree)):
        match node:
            case ast.Call(func=ast.Attribute(attr="get", value=fields), args=[ast.Constant(value=name), *_]):
                pass
            case ast.Compare(left=ast.Constant(value=name), comparators=[fields]):
                pass
            case _:
                continue
        if _is_headers(fields):
            yield str(name)


def _is_headers(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "headers") or (_is_name(node, "headers"))


def _outside_decorators(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes but those of decorators, constants of routes, and `api.openapi`'s lists."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
            continue  # a list of types for the document
        if isinstance(node, ast.FunctionDef):
            for statement in node.body:
                yield from ast.walk(statement)
        else:
            yield node
            yield from _outside_decorators(node)


def _check(schema: dict[str, Any], example: Any) -> None:
    whole = {**schema, "components": _DOCUMENT["components"]}
    validator = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(example)] == []
