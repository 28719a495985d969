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
    recovered: int = 0


@dataclass(frozen=True)
class GatewayCounts:
    """Numbers of frames: sampled = accepted + spooled + skipped + dropped + refused."""

    sampled: int
    accepted: int
    spooled: int
    skipped: int
    dropped: int
    refused: int


@dataclass(frozen=True)
class Row:
    """Counts of one camera's jobs that were accepted in the hour from `hour` on.

    `gateway` has the counts of gateways, of frames that were captured in the hour; None without one.
    """

    camera: str
    hour: datetime
    counts: Counts
    balanced: bool
    gateway: GatewayCounts | None = None


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
        gateway: sum of the counts of gateways; None without one.
    """

    camera: str | None
    since: datetime
    until: datetime
    rows: tuple[Row, ...]
    sum: Counts
    system: Counts | None
    balanced: bool
    gateway: GatewayCounts | None = None


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
            Row(
                row["camera"],
                parse_time(row["hour"]),
                _counts(row),
                row["balanced"],
                _gateway_counts(row.get("gateway")),
            )
            for row in document["rows"]
        ),
        gateway=_gateway_counts(document["sum"].get("gateway")),
        sum=_counts(document["sum"]),
        system=None if system is None else _counts(system),
        balanced=document["balanced"],
    )


def _counts(document: Mapping[str, Any]) -> Counts:
    required = {
        name: document[name] for name in (field.name for field in fields(Counts)) if name != "recovered"
    }
    return Counts(**required, recovered=document.get("recovered", 0))  # which servers before 0.3.0 lack


def _gateway_counts(document: Mapping[str, Any] | None) -> GatewayCounts | None:
    if document is None:  # also of a server that knows no gateways
        return None
    return GatewayCounts(**{field.name: document[field.name] for field in fields(GatewayCounts)})
