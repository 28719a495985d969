"""docs/reference.md, and what it is made of."""

from __future__ import annotations

import pytest

from api.openapi.reference import as_markdown
from api.openapi.text import code, type_text
from tests.support.contract import app, contract
from tests.support.servers import REPOSITORY


def test_the_reference_is_up_to_date() -> None:
    """It is made again after every change: `python -m api.openapi > docs/reference.md`."""
    page = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert page == as_markdown(app(), contract().document)


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (
            {"type": "number", "exclusiveMinimum": 0, "maximum": 604_800},
            "number, more than 0, at most 604,800",
        ),
        ({"anyOf": [{"$ref": "#/components/schemas/Job"}, {"type": "null"}]}, "[Job](#job) or null"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 3}, "list of string, at most 3 items"),
        ({"enum": ["a", "b"]}, "`a`, `b`"),
    ],
)
def test_types_are_said_in_words(schema: dict[str, object], text: str) -> None:
    """With their bounds; other schemas are links."""
    assert type_text(schema) == text


def test_text_is_escaped_before_it_is_html() -> None:
    """Code and links become elements, and nothing else does."""
    assert code("<b> `a` [Job](#job)") == '&lt;b&gt; <code>a</code> <a href="#job">Job</a>'
