"""Examples: of whole documents, made of the examples of their members, and of calls."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

from api.http.event_stream import MEDIA_TYPE

SERVER: Final = "http://127.0.0.1:8000"
"""Address in examples of calls."""

_PLAIN: Final = frozenset({"X-Request-ID", "If-None-Match", "Last-Event-ID", "after"})
"""Parameters that examples of calls leave out: they have values of earlier responses."""

_IMAGES: Final = ("docs/examples/apple.jpg", "docs/examples/can.jpg")
_KEY: Final = '-H "Authorization: Bearer $WASTESTREAM_API_KEY"'


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """Return an example of a schema: its own, or one of its members' examples.

    Args:
        schema: of a model or a member.
        schemas: the schemas that it may refer to, by name.

    Raises:
        ValueError: a member has no example, and none can be made.
    """
    for choices in ("examples", "enum"):
        if choices in schema:
            return schema[choices][0]
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    if "anyOf" in schema:
        return example(schema["anyOf"][0], schemas)
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    match schema["type"]:
        case "object":
            members = schema.get("properties", {})
            return {name: example(member, schemas) for name, member in members.items()}
        case "array":
            return [example(schema["items"], schemas)]
    raise ValueError(f"A member has no example; add `examples` to its Field: {dict(schema)}")


def curl(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """Return the line of a shell that calls an operation with the examples of its parameters and body."""
    words = ["curl", *([_KEY] if operation["security"] else [])]
    if any(MEDIA_TYPE in response.get("content", ()) for response in operation["responses"].values()):
        words.append("--no-buffer")
    given = [each for each in operation["parameters"] if "example" in each and each["name"] not in _PLAIN]
    words += [_header(each["name"], each["example"]) for each in given if each["in"] == "header"]
    words += _body(operation.get("requestBody"))
    if method in {"delete", "put"} or (method == "post" and "requestBody" not in operation):
        words += ["-X", method.upper()]
    for each in given:
        if each["in"] == "path":
            path = path.replace(f"{{{each['name']}}}", quote(str(each["example"])))
    query = urlencode(
        {each["name"]: each["example"] for each in given if each["in"] == "query"}, doseq=True, safe=":"
    )
    return " ".join([*words, shlex.quote(f"{SERVER}{path}{'?' if query else ''}{query}")])


def _header(name: str, value: object) -> str:
    return f"-H {shlex.quote(f'{name}: {value}')}"


def _body(body: Mapping[str, Any] | None) -> Iterator[str]:
    if body is None:
        return
    media_type, content = next(iter(body["content"].items()))
    if media_type == "multipart/form-data":
        yield from (f"-F files=@{image}" for image in _IMAGES)
        return
    yield _header("Content-Type", media_type)
    if "example" in content:
        yield f"--data {shlex.quote(json.dumps(content['example']))}"
    else:
        yield f"--data-binary @{_IMAGES[0]}"
