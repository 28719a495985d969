"""Times and durations as clients write them."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from api.http.problems import RequestError

_CLOCK_SKEW_SECONDS: Final = 300

_NUMBER: Final = re.compile(r"(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
"""A decimal number. Python's own `float` also takes `1_000`, `inf` and digits of all scripts."""

_LEAP_SECOND: Final = re.compile(r"(?<=:\d\d:)60(?=\D|$)", re.ASCII)

_EPOCH: Final = re.compile(r"(?:(\d{9,10})|(\d{12,13}))(?:\.\d+)?", re.ASCII)
"""Seconds since 1970, or milliseconds. Not 8 or 14 digits, which are rather a date without a zone."""

_COMPACT_DATES: Final = ("%Y%m%d%H%M", "%y%m%d%H%M%S")
"""Dates of 12 digits, as controllers write them. Milliseconds of years up to 2001 have as many."""

_COMPACT_DIGITS: Final = 12


def parse_number(text: str) -> float | None:
    """Return the decimal number, None if the text is none."""
    return float(text) if _NUMBER.fullmatch(text) else None


def parse_rfc3339(text: str) -> datetime | None:
    """Return the time, with its zone; None if the text is no time, or names no zone.

    Besides what Python reads, RFC 3339 (section 5.6) allows `t` and `z` in small letters and a leap second,
    which is taken for the first second of the next minute.
    """
    text, leap = _LEAP_SECOND.subn("59", text, count=1)
    try:
        moment = datetime.fromisoformat(text.upper()) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def captured_ms(text: str | None) -> int | None:
    """Return when a picture was taken, ms since 1970, as `X-Captured-At` states it; None without the header.

    Raises:
        RequestError: 400, it is no time; 422, it lies in the future or before 1970.
    """
    if text is None:
        return None
    moment = _parse_epoch(text) or parse_rfc3339(text)
    if moment is None:
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            f"X-Captured-At {text[:80]!r} is not a time with its zone; send RFC 3339, such as "
            "2026-01-31T08:15:00Z, or seconds or milliseconds since 1970.",
        )
    if moment.timestamp() < 0:  # where clocks that lost their time begin; nothing was photographed before
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies before 1970 (UTC); set the camera's clock, or leave it out.",
        )
    if (moment - datetime.now(UTC)).total_seconds() > _CLOCK_SKEW_SECONDS:
        raise RequestError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"X-Captured-At {text[:80]} lies in the future; set the camera's clock, or leave the header out.",
        )
    return round(moment.timestamp() * 1000)


def _parse_epoch(text: str) -> datetime | None:
    match = _EPOCH.fullmatch(text)
    if match is None or (len(match[0]) == _COMPACT_DIGITS and _is_date(match[0])):
        return None
    return datetime.fromtimestamp(float(text) / (1 if match[1] else 1000), UTC)


def _is_date(digits: str) -> bool:
    """Return whether the digits are a date and time without a zone, rather than a number."""
    for form in _COMPACT_DATES:
        with suppress(ValueError):
            datetime.strptime(digits, form).replace(tzinfo=UTC)
            return True
    return False
