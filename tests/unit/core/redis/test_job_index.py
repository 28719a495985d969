"""core.redis.job_index: places in the list as text."""

from __future__ import annotations

import pytest

from core.redis.job_index import Cursor


def test_a_cursor_is_read_as_it_was_written() -> None:
    """Clients send it back as it is."""
    cursor = Cursor(1_764_257_511_000, 7, 15, 1_764_257_599_999)
    assert Cursor.parse(str(cursor)) == cursor
    assert Cursor.parse(str(cursor.at("5-6", 7))) == Cursor(5, 6, 7, cursor.until_ms)
    assert cursor.behind("5-6").entry == "5-7"


@pytest.mark.parametrize(
    "text", ["", "5", "5-6-7", "5-6-7-x", "5-6-7-8-9", " 5-6-7-8", "\u0665-6-7-8", "9" * 90]
)
def test_other_texts_are_no_cursor(text: str) -> None:
    """Also digits of other scripts."""
    with pytest.raises(ValueError, match="is not a cursor"):
        Cursor.parse(text)
