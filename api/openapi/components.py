"""Components of the OpenAPI document: parameters and responses that several operations refer to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_KINDS: Final = ("parameters", "responses")


class Components:
    """Collects parameters and responses by name, so that the document has each of them once."""

    def __init__(self) -> None:
        self._described: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in _KINDS}
        self._references: dict[tuple[str, str], list[dict[str, Any]]] = {}

    def refer(self, kind: str, name: str, described: dict[str, Any]) -> dict[str, Any]:
        """Return a reference to a parameter or response.

        Args:
            kind: `parameters` or `responses`.
            name: of the component.
            described: its description.

        Raises:
            ValueError: another description has the name.
        """
        if self._described[kind].setdefault(name, described) != described:
            raise ValueError(f"Two {kind} have the name {name}.")
        reference = {"$ref": f"#/components/{kind}/{name}"}
        self._references.setdefault((kind, name), []).append(reference)
        return reference

    def finish(self) -> dict[str, dict[str, Any]]:
        """Return the components; put those with one reference in its place."""
        for (kind, name), (reference, *others) in self._references.items():
            if not others:
                reference.clear()
                reference.update(self._described[kind].pop(name))
        return {kind: dict(sorted(described.items())) for kind, described in self._described.items()}


def resolved(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the document with parameters and responses in place of references to them, for readers."""

    def target(described: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in described:
            return described
        kind, name = described["$ref"].removeprefix("#/components/").split("/")
        component: dict[str, Any] = document["components"][kind][name]
        return component

    def operation(described: Mapping[str, Any]) -> dict[str, Any]:
        responses = {status: target(response) for status, response in described["responses"].items()}
        return {**described, "parameters": [*map(target, described["parameters"])], "responses": responses}

    paths = {
        path: {method: operation(described) for method, described in operations.items()}
        for path, operations in document["paths"].items()
    }
    return {**document, "paths": paths}
