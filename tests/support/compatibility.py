"""What a client of an older OpenAPI document of ours meets in a newer one that it cannot know of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]


def breaking_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return a sentence for each change that breaks a client of `old`."""
    return [*_Comparison(old, new).changes()]


class _Comparison:
    def __init__(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        self._old, self._new = old, new
        self._compared: set[tuple[str, bool]] = set()

    def changes(self) -> Iterator[str]:
        for path, operations in self._old["paths"].items():
            if path not in self._new["paths"]:
                yield f"The path {path} is gone."
                continue
            for method, operation in operations.items():
                name = f"{method.upper()} {path}"
                if method not in self._new["paths"][path]:
                    yield f"{name} is gone."
                else:
                    yield from self._of_operation(name, operation, self._new["paths"][path][method])
        removed = self._old["components"]["examples"].keys() - self._new["components"]["examples"].keys()
        yield from (f"The problem {slug} is gone." for slug in sorted(removed))

    def _of_operation(self, name: str, old: Schema, new: Schema) -> Iterator[str]:
        if old.get("x-scope") != new.get("x-scope"):
            yield f"{name} needs the scope {new.get('x-scope')} instead of {old.get('x-scope')}."
        yield from self._of_parameters(name, old["parameters"], new["parameters"])
        yield from self._of_bodies(name, old.get("requestBody"), new.get("requestBody"))
        for status, response in old["responses"].items():
            if status not in new["responses"]:
                yield f"{name} no longer responds with {status}."
                continue
            other = new["responses"][status]
            for header in sorted(response["headers"].keys() - other["headers"].keys()):
                yield f"{name}: the response {status} no longer has the header field {header}."
            where = f"{name}: the response {status}"
            yield from self._of_contents(where, response, other, is_request=False)
        for status in sorted(new["responses"].keys() - old["responses"].keys()):
            if status < "400":
                yield f"{name} responds with {status}, which is new."

    def _of_parameters(self, name: str, old: list[Schema], new: list[Schema]) -> Iterator[str]:
        others = {(each["in"], each["name"]): each for each in new}
        known = {(each["in"], each["name"]): each for each in old}
        for place, parameter in known.items():
            where = f"{name}: the {place[0]} parameter {place[1]}"
            if place not in others:
                yield f"{where} is gone."
                continue
            if others[place]["required"] and not parameter["required"]:
                yield f"{where} is now required."
            yield from self._of_schemas(where, parameter["schema"], others[place]["schema"], is_request=True)
        for place, parameter in others.items():
            if parameter["required"] and place not in known:
                yield f"{name}: the {place[0]} parameter {place[1]} is new and required."

    def _of_bodies(self, name: str, old: Schema | None, new: Schema | None) -> Iterator[str]:
        where = f"{name}: the body"
        if old is None or new is None:
            if old is not new:
                yield f"{where} is gone." if old else f"{where} is new and required."
            return
        yield from self._of_contents(where, old, new, is_request=True)

    def _of_contents(self, where: str, old: Schema, new: Schema, *, is_request: bool) -> Iterator[str]:
        others = new.get("content", {})
        for media_type, content in old.get("content", {}).items():
            if media_type not in others:
                yield f"{where} can no longer be {media_type}."
            elif media_type != "application/problem+json":  # more types of problems are no break
                schemas = content["schema"], others[media_type]["schema"]
                yield from self._of_schemas(where, *schemas, is_request=is_request)

    def _of_schemas(self, where: str, old: Schema, new: Schema, *, is_request: bool) -> Iterator[str]:
        """Compare what may be sent, or what may come."""
        if "$ref" in old:
            name = str(old["$ref"]).rpartition("/")[2]
            if (name, is_request) in self._compared:
                return
            self._compared.add((name, is_request))
            where = f"{name}"
        old, new = _resolved(self._old, old), _resolved(self._new, new)
        yield from _of_values(where, old, new, is_request=is_request)
        yield from self._of_members(where, old, new, is_request=is_request)
        if "items" in old and "items" in new:
            yield from self._of_schemas(f"{where}[]", old["items"], new["items"], is_request=is_request)
        choices, others = _choices(self._old, old), _choices(self._new, new)
        for kind in sorted(choices.keys() & others.keys()):
            yield from self._of_schemas(where, choices[kind], others[kind], is_request=is_request)

    def _of_members(self, where: str, old: Schema, new: Schema, *, is_request: bool) -> Iterator[str]:
        members, others = old.get("properties", {}), new.get("properties", {})
        required, needed = set(old.get("required", ())), set(new.get("required", ()))
        for member, schema in members.items():
            if member not in others:
                yield f"{where}: the member {member} is gone."
                continue
            if not is_request and member in required - needed:
                yield f"{where}: the member {member} may now be absent."
            yield from self._of_schemas(f"{where}.{member}", schema, others[member], is_request=is_request)
        if is_request:
            for member in sorted(needed - required):
                yield f"{where}: the member {member} is now required."


def _of_values(where: str, old: Schema, new: Schema, *, is_request: bool) -> Iterator[str]:
    """Compare types, enumerations and bounds: requests may not be narrowed, responses may not be widened."""
    before, after = (new, old) if is_request else (old, new)
    verb = "can no longer be" if is_request else "can now be"
    kinds, more = _kinds(before), _kinds(after)
    if kinds and more:
        yield from (f"{where} {verb} {kind}." for kind in sorted(more - kinds))
    if "enum" in before:
        values = after.get("enum", ["another text"])
        yield from (f"{where} {verb} {value!r}." for value in values if value not in before["enum"])
    if is_request:
        for bound, is_narrower in _NARROWER.items():
            if bound in new and (bound not in old or is_narrower(old[bound], new[bound])):
                yield f"{where} has a narrower {bound}: {new[bound]} instead of {old.get(bound, 'none')}."


_NARROWER: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": lambda old, new: new > old,
    "exclusiveMinimum": lambda old, new: new > old,
    "maximum": lambda old, new: new < old,
    "minItems": lambda old, new: new > old,
    "maxItems": lambda old, new: new < old,
    "minLength": lambda old, new: new > old,
    "maxLength": lambda old, new: new < old,
    "pattern": lambda old, new: new != old,
}


def _kinds(schema: Schema) -> set[str]:
    """Return the types of a schema, with those of its choices."""
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    own = {str(schema["type"])} if "type" in schema else set()
    return own or set().union(*map(_kinds, choices))


def _resolved(document: dict[str, Any], schema: Schema) -> Schema:
    if "$ref" not in schema:
        return schema
    target: Schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return target


def _choices(document: dict[str, Any], schema: Schema) -> dict[str, Schema]:
    """Return the choices of a schema by name or type, with references that are followed later."""
    choices = [*schema.get("anyOf", ()), *schema.get("oneOf", ())]
    return {str(each.get("$ref") or each.get("type")): each for each in choices}
