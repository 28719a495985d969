"""Hours of the ledger: UTC, written yyyymmddhh."""

from __future__ import annotations

from datetime import UTC, datetime
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
