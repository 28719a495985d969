"""Examples of whole documents, made of the examples of their members."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """Return an example of a schema: its own, or one of its members' examples.

    Args:
        schema: of a model or a member.
        schemas: the schemas that it may refer to, by name.
    """
    if "$ref" in schema and "examples" not in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for choices in ("examples", "enum", "anyOf"):
        if choices in schema:
            first = schema[choices][0]
            return example(first, schemas) if choices == "anyOf" else first
    for fixed in ("const", "default"):
        if fixed in schema:
            return schema[fixed]
    match schema["type"]:
        case "object":
            members = schema.get("properties", {})
            return {name: example(member, schemas) for name, member in members.items()}
        case "array":
            return [example(schema["items"], schemas)]
    raise ValueError(f"no example: {schema}")
