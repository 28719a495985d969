"""The ledger as the API shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from api.schemas.times import hour_timestamp
from core.redis.ledger import COUNTERS, TOTALS, Balance, Counts, LedgerRow, total


def counts_document(counts: Counts) -> dict[str, int]:
    """Return the counters of a row or of a sum of rows."""
    return {counter: counts[counter] for counter in COUNTERS}


def row_document(row: LedgerRow) -> dict[str, Any]:
    """Return a row: one camera's counters of one hour."""
    return {
        "camera": row.camera,
        "hour": hour_timestamp(row.hour),
        **counts_document(row.counts),
        "balanced": row.counts.balanced,
    }


def ledger_document(rows: Sequence[LedgerRow], balance: Balance | None) -> dict[str, Any]:
    """Return rows, their sum, the whole system's counters, and whether all of them are balanced.

    Without `balance`, for who may not see the whole system, only the rows count.
    """
    system = balance and {
        **{counter: balance.counts[counter] for counter in TOTALS},
        "pending": balance.waiting,
    }
    return {
        "rows": [row_document(row) for row in rows],
        "sum": counts_document(total(row.counts for row in rows)),
        "system": system,
        "balanced": (balance is None or balance.balanced) and all(row.counts.balanced for row in rows),
    }
