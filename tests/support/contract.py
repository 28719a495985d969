"""The OpenAPI document as the yardstick of responses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from typing import Any, Final, Self

from flask import Flask
from openapi_schema_validator import OAS31Validator

from api.app import create_app
from api.http.problem_types import ProblemType
from api.openapi.components import resolved
from api.openapi.document import openapi_document
from core.settings import Settings

METHODS: Final = ("get", "post", "put", "patch", "delete")

TRANSPORT: Final = {
    "connection": "HTTP's own: whether the connection stays open",
    "content-length": "HTTP's own: length of the body",
    "content-type": "OpenAPI has it beside the schema of the body",
    "date": "HTTP's own: when the response was made",
}
"""Header fields that responses have and the document leaves out, with the reason."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A response, and the request that it answers. Names of header fields are in lower case."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, method: str, path: str, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> Self:
        """Return a response with header fields as a library has them."""
        return cls(method, path, status, {name.lower(): value for name, value in headers}, body)


class Contract:
    """Finds what a response has and the document does not say."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        """The document as it is served."""
        self.resolved = resolved(document)
        """The same without references to parameters and responses."""
        self._paths = [
            (re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path))), operations)
            for path, operations in self.resolved["paths"].items()
        ]
        self._validators: dict[str, OAS31Validator] = {}

    def operations(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Yield path, method and description of each operation."""
        for path, operations in self.resolved["paths"].items():
            yield from ((path, method, described) for method, described in operations.items())

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """Return the description of the operation that a request calls; None if there is none."""
        described: dict[str, Any] | None = self._path(path).get(method.lower())
        return described

    def violations(self, seen: Seen) -> list[str]:
        """Return what the document does not say of a response, in sentences."""
        method = "get" if seen.method == "HEAD" else seen.method.lower()
        described = self.operation(method, seen.path)
        if described is None:
            return self._elsewhere(seen)
        where = f"{seen.method} {seen.path} {seen.status}"
        response = described["responses"].get(str(seen.status))
        if response is None:
            return [f"{where}: the status is not documented; {seen.body[:300]!r}"]
        unknown = set(seen.headers) - {name.lower() for name in response["headers"]} - set(TRANSPORT)
        found = [f"{where}: the header field {name} is not documented" for name in sorted(unknown)]
        return found + [f"{where}: {violation}" for violation in self._of_body(seen, response)]

    def _path(self, path: str) -> dict[str, Any]:
        path = path.rstrip("/") or "/"
        matches = [operations for pattern, operations in self._paths if pattern.fullmatch(path)]
        literal: dict[str, Any] | None = self.resolved["paths"].get(path)
        return literal or (matches[0] if matches else {})

    def _elsewhere(self, seen: Seen) -> list[str]:
        """Check a response to a request that names no operation."""
        kind = ProblemType.METHOD_NOT_ALLOWED if self._path(seen.path) else ProblemType.ROUTE_NOT_FOUND
        if (seen.status, json.loads(seen.body or b"{}").get("type")) == (kind.status, kind.uri):
            return []
        return [f"{seen.method} {seen.path} {seen.status}: there is no such operation; {seen.body[:300]!r}"]

    def _of_body(self, seen: Seen, response: dict[str, Any]) -> list[str]:
        if seen.method == "HEAD" or seen.status == HTTPStatus.NOT_MODIFIED:
            return []
        media_type = seen.headers.get("content-type", "")
        contents = response.get("content", {})
        content = contents.get(media_type) or contents.get(media_type.partition(";")[0])
        if content is None:
            return [f"the media type {media_type!r} is not documented"] if seen.body else []
        if not media_type.endswith("json"):
            return []
        errors = self._validator(content["schema"]).iter_errors(json.loads(seen.body))
        return [f"{error.json_path}: {error.message}" for error in errors]

    def _validator(self, schema: dict[str, Any]) -> OAS31Validator:
        name = json.dumps(schema, sort_keys=True)
        if name not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[name] = OAS31Validator(whole, format_checker=OAS31Validator.FORMAT_CHECKER)
        return self._validators[name]


@cache
def app() -> Flask:
    """Return an application to look at. It needs no server."""
    return create_app(Settings())


@cache
def contract() -> Contract:
    """Return the contract of the code."""
    return Contract(openapi_document(app()))
