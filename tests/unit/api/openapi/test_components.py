"""api.openapi.components: parameters and responses that the document has once."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from api.openapi.components import Components, resolved
from tests.support.contract import contract


def test_what_operations_share_is_in_the_document_once() -> None:
    """Parameters and problems; an answer with the same status as a problem belongs to its operation."""
    seen = Counter(
        json.dumps(described, sort_keys=True)
        for operations in contract().document["paths"].values()
        for operation in operations.values()
        for described in [*operation["parameters"], *operation["responses"].values()]
        if "$ref" not in described
    )
    assert [text for text, count in seen.items() if count > 1] == []


def test_a_component_with_one_reference_takes_its_place() -> None:
    """The document has it where it is used, and readers see no difference."""
    components = Components()
    wait, limit = {"name": "wait"}, {"name": "limit"}
    first = [components.refer("parameters", name, each) for name, each in (("wait", wait), ("limit", limit))]
    second = [components.refer("parameters", "wait", wait)]
    assert components.finish() == {"parameters": {"wait": wait}, "responses": {}}
    reference = {"$ref": "#/components/parameters/wait"}
    assert (first, second) == ([reference, limit], [reference])
    operation = {"parameters": first, "responses": {}}
    document = {"paths": {"/": {"get": operation}}, "components": {"parameters": {"wait": wait}}}
    assert resolved(document)["paths"]["/"]["get"]["parameters"] == [wait, limit]


def test_two_components_of_one_name_are_an_error() -> None:
    """One of them would be lost."""
    components = Components()
    components.refer("responses", "Gone", {"description": "gone"})
    with pytest.raises(ValueError, match="Two responses have the name Gone"):
        components.refer("responses", "Gone", {"description": "expired"})
