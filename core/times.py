"""Times in JSON: RFC 3339 in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from core.hours import start_of


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
