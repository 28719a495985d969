"""Texts of the reference, in Markdown: `code` between backticks, links as `[text](#anchor)`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from markupsafe import Markup, escape

_CODE: Final = re.compile(r"`([^`]+)`")
_LINK: Final = re.compile(r"\[([^\]]+)\]\((#[\w-]+)\)")

_BOUNDS: Final = {
    "minimum": "at least {:,g}",
    "exclusiveMinimum": "more than {:,g}",
    "maximum": "at most {:,g}",
    "minItems": "at least {:,} items",
    "maxItems": "at most {:,} items",
}


def code(text: str) -> Markup:
    """Return a text as HTML, with elements for code and links."""
    html = _CODE.sub(r"<code>\1</code>", str(escape(text)))
    return Markup(_LINK.sub(r'<a href="\2">\1</a>', html))  # noqa: S704 - escaped before


def type_text(schema: Mapping[str, Any]) -> str:
    """Return the type of a parameter or member, with its bounds. Descriptions say what a pattern means."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{anchor(name)})"
    for choices in ("anyOf", "oneOf"):
        if choices in schema:
            return " or ".join(map(type_text, schema[choices]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    name = schema.get("format") or schema.get("type") or "string"
    if name == "array":
        name = f"list of {type_text(schema['items'])}"
    bounds = [text.format(schema[bound]) for bound, text in _BOUNDS.items() if bound in schema]
    return ", ".join([name, *bounds])


def anchor(heading: str) -> str:
    """Return the end of a link to a heading, as GitHub makes it."""
    return re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
