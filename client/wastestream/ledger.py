"""The ledger: counters that prove that nothing is lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from wastestream.jobs import parse_time


@dataclass(frozen=True)
class Counts:
    """Numbers of images: received = classified + failed + expired + cancelled + pending.

    `duplicates` are images sent again under a known idempotency key; they do not count as received.
    `recovered` are images received whose jobs the server had lost and found again in its storage.
    """

    received: int
    classified: int
    failed: int
    expired: int
    cancelled: int
    pending: int
    duplicates: int
    recovered: int


@dataclass(frozen=True)
class Row:
    """Counts of one camera's jobs that were accepted in the hour from `hour` on."""

    camera: str
    hour: datetime
    counts: Counts
    balanced: bool


@dataclass(frozen=True)
class Ledger:
    """Rows of whole hours from `since` up to, not including, `until`.

    Attributes:
        camera: the only camera of the rows; None for all.
        since: begin of the first hour.
        until: end of the last hour.
        rows: one for each camera and hour.
        sum: of the rows.
        system: all cameras and hours ever; None for an API key that is bound to cameras.
        balanced: whether every row, and the system, are.
    """

    camera: str | None
    since: datetime
    until: datetime
    rows: tuple[Row, ...]
    sum: Counts
    system: Counts | None
    balanced: bool


def parse_ledger(document: Mapping[str, Any]) -> Ledger:
    """Return the ledger of a JSON document.

    Raises:
        KeyError, TypeError, ValueError: the document is not a ledger.
    """
    system = document["system"]
    return Ledger(
        camera=document["camera"],
        since=parse_time(document["from"]),
        until=parse_time(document["to"]),
        rows=tuple(
            Row(row["camera"], parse_time(row["hour"]), _counts(row), row["balanced"])
            for row in document["rows"]
        ),
        sum=_counts(document["sum"]),
        system=None if system is None else _counts(system),
        balanced=document["balanced"],
    )


def _counts(document: Mapping[str, Any]) -> Counts:
    return Counts(**{field.name: document[field.name] for field in fields(Counts)})
