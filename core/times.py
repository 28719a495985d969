"""Times as text: RFC 3339, written in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from core.hours import start_of

_LEAP_SECOND: Final = re.compile(r"(?<=:\d\d:)60(?=\D|$)", re.ASCII)

_FIRST_YEAR: Final = 1970
_LAST_YEAR: Final = 9000  # leaves room to add hours: years end with 9999


def timestamp(milliseconds: int) -> str:
    """Return milliseconds since 1970 as text, to the millisecond."""
    return written(datetime.fromtimestamp(milliseconds / 1000, UTC))


def optional_timestamp(milliseconds: int | None) -> str | None:
    """Return `timestamp`, None for None."""
    return None if milliseconds is None else timestamp(milliseconds)


def written(moment: datetime) -> str:
    """Return a time in UTC as text, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def hour_timestamp(hour: str) -> str:
    """Return when an hour of the ledger (yyyymmddhh) begins."""
    return written(start_of(hour))


def parse_rfc3339(text: str) -> datetime | None:
    """Return the time, with its zone; None if the text is not a time, or has no zone.

    RFC 3339 (section 5.6) also allows two things that Python does not parse: lower-case `t` and `z`, and a
    leap second, which is read as the first second of the next minute.
    """
    text, leap = _LEAP_SECOND.subn("59", text, count=1)
    try:
        moment = datetime.fromisoformat(text.upper()) + timedelta(seconds=leap)
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else None


def parse_moment(text: str) -> datetime | None:
    """Return a date (midnight UTC) or a time with its zone, in UTC; None if the text is neither."""
    try:
        if "T" not in text.upper():
            moment: datetime | None = datetime.combine(date.fromisoformat(text), time(), UTC)
        else:
            # An unescaped plus sign in a URL is decoded as a space.
            moment = parse_rfc3339(text.replace(" ", "+"))
            moment = moment and moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if moment and _FIRST_YEAR <= moment.year <= _LAST_YEAR else None
