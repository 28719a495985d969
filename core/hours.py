"""Hours of the ledger: UTC, written yyyymmddhh."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

_FORMAT: Final = "%Y%m%d%H"


def hour_of(moment: datetime | int) -> str:
    """Return the hour of a time: a datetime in UTC, or milliseconds since 1970."""
    if isinstance(moment, int):
        moment = datetime.fromtimestamp(moment / 1000, UTC)
    return f"{moment:{_FORMAT}}"


def start_of(hour: str) -> datetime:
    """Return when an hour begins."""
    return datetime.strptime(hour, _FORMAT).replace(tzinfo=UTC)


def hours_between(*some: str) -> Iterator[str]:
    """Yield every hour from the earliest to the latest of some; none if there are none."""
    if not some:
        return
    begin, end = start_of(min(some)), start_of(max(some))
    for number in range((end - begin) // timedelta(hours=1) + 1):
        yield hour_of(begin + timedelta(hours=number))
