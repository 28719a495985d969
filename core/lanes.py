"""The two lanes of uploads. Each has a queue of its own, so that neither waits behind the other."""

from __future__ import annotations

from typing import Final

SINGLE: Final = "single"
BULK: Final = "bulk"
LANES: Final = (SINGLE, BULK)
"""Single uploads and bulk uploads."""

OTHER: Final = {SINGLE: BULK, BULK: SINGLE}
"""Lane to the other lane."""

BULK_SHARE: Final = 4
"""While both lanes have jobs, one in this many places of a batch goes to bulk uploads."""

RESERVE: Final = 10
"""One in this many places of the queue is reserved for single uploads."""

SHARE: Final = {SINGLE: 1 - 1 / BULK_SHARE, BULK: 1 / BULK_SHARE}
"""Each lane's part of the work while both have jobs."""


def max_queued_for(lane: str, max_queued: int) -> int:
    """Return the number of queued jobs, of both lanes, up to which an upload of `lane` is accepted."""
    return max_queued - (max_queued // RESERVE if lane == BULK else 0)
