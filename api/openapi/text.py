"""Inline code in descriptions, which are written in Markdown's way: `between backticks`."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup, escape

_CODE: Final = re.compile(r"`([^`]+)`")


def code(text: str) -> Markup:
    """Return a text as HTML, with `<code>` for text between backticks."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before
