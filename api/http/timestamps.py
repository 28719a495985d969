"""Parsers of times and durations in requests."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from core.times import parse_rfc3339

_CLOCK_SKEW_SECONDS: Final = 300

_NUMBER: Final = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A decimal number. Python's own `float` also takes `1_000`, `inf` and digits of all scripts."""

_EPOCH: Final = re.compile(r"(?:(\d{9,10})|(\d{12,13}))(?:\.\d+)?", re.ASCII)
"""Seconds since 1970, or milliseconds. 8 or 14 digits are more likely a date without a zone."""

_COMPACT_DATES: Final = ("%Y%m%d%H%M", "%y%m%d%H%M%S")
"""Dates of 12 digits, as controllers write them. Milliseconds up to the year 2001 have 12 digits too."""

_COMPACT_DIGITS: Final = 12


def parse_number(text: str) -> float | None:
    """Return the decimal number; None if the text is not one."""
    return float(text) if _NUMBER.fullmatch(text) else None


def captured_ms(text: str | None, name: str, kind: ProblemType) -> int | None:
    """Return the time at which an image was taken, ms since 1970; None for None.

    Args:
        text: RFC 3339, or seconds or milliseconds since 1970.
        name: name of the header or member, for the sentence.
        kind: type of the problem if the text is not a time.

    Raises:
        RequestError: 400, the text is not a time; 422, the time is in the future or before 1970.
    """
    if text is None:
        return None
    moment = _parse_epoch(text) or parse_rfc3339(text)
    if moment is None:
        raise RequestError(
            kind,
            f"{name} {text[:80]!r} is not a time with its zone; send RFC 3339, such as "
            "2026-01-31T08:15:00Z, or seconds or milliseconds since 1970.",
        )
    if moment.timestamp() < 0:  # Clocks that lost their time may restart before 1970.
        raise RequestError(
            ProblemType.INVALID_TIME,
            f"{name} {text[:80]} is before 1970 (UTC); set the camera's clock, or send no time.",
        )
    if (moment - datetime.now(UTC)).total_seconds() > _CLOCK_SKEW_SECONDS:
        raise RequestError(
            ProblemType.INVALID_TIME,
            f"{name} {text[:80]} is in the future; set the camera's clock, or send no time.",
        )
    return round(moment.timestamp() * 1000)


def _parse_epoch(text: str) -> datetime | None:
    match = _EPOCH.fullmatch(text)
    if match is None or (len(match[0]) == _COMPACT_DIGITS and _is_date(match[0])):
        return None
    return datetime.fromtimestamp(float(text) / (1 if match[1] else 1000), UTC)


def _is_date(digits: str) -> bool:
    """Return whether the digits are a date and time without a zone."""
    for form in _COMPACT_DATES:
        with suppress(ValueError):
            datetime.strptime(digits, form).replace(tzinfo=UTC)
            return True
    return False
