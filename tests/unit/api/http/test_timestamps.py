"""api.http.timestamps: times and numbers as clients write them."""

from __future__ import annotations

import pytest

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from api.http.timestamps import captured_ms, parse_number

QUARTER_PAST = 1_769_847_300_000
"""2026-01-31T08:15:00Z, ms since 1970."""


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("2026-01-31T08:15:00Z", 0),
        ("2026-01-31t08:15:00z", 0),
        ("2026-01-31 09:15:00.250+01:00", 250),
        ("2026-01-31T08:15:00-00:00", 0),
        ("2026-01-31T08:14:60Z", 0),
        ("2026-01-31t08:14:60.5z", 500),
        ("2026-01-31T08:15:00.123456789Z", 123),
        ("1769847300", 0),
        ("1769847300.25", 250),
        ("1769847300250", 250),
        ("1769847300250.5", 250),
    ],
)
def test_a_time_may_be_written_in_several_ways(text: str, milliseconds: int) -> None:
    """As RFC 3339 allows, with a leap second, and in seconds or milliseconds since 1970."""
    assert captured_ms(text, "X-Captured-At", ProblemType.INVALID_HEADER) == QUARTER_PAST + milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "20260131",
        "20260131081500",
        "17698473000",
        "202601310815",  # a date without a zone
        "260131081500",
        "37",
        "1_769_847_300",
        "-1769847300",
        "1769847300s",
        "2026-01-31T08:15:00",
        "2026-01-31T08:60:00Z",
        "2026-01-31T08:15:61Z",
        "9999-12-31T23:59:60Z",
        "\u0661\u0667\u0666\u0669\u0668\u0664\u0667\u0663\u0660\u0660",
    ],
)
def test_malformed_times_are_rejected(text: str) -> None:
    """Also digits that could be a date, a count since the camera's start, or one of another unit."""
    with pytest.raises(RequestError, match="is not a time with its zone; send RFC 3339"):
        captured_ms(text, "X-Captured-At", ProblemType.INVALID_HEADER)


def test_a_header_that_is_absent_says_nothing() -> None:
    """And so no time."""
    assert captured_ms(None, "X-Captured-At", ProblemType.INVALID_HEADER) is None


@pytest.mark.parametrize(("text", "number"), [("5", 5), ("0.5", 0.5), (".5", 0.5), ("5.", 5), ("1e3", 1000)])
def test_numbers_are_decimal(text: str, number: float) -> None:
    """With a point or an exponent."""
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "1_000", "inf", "nan", "-1", "+1", " 1", "1,5", "0x10", "\u0661", "."])
def test_numbers_of_python_only_are_rejected(text: str) -> None:
    """Underscores, words, digits of other scripts."""
    assert parse_number(text) is None
