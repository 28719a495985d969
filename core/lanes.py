"""The two ways in, queued apart so that neither waits behind the other."""

from __future__ import annotations

from typing import Final

SINGLE: Final = "single"
BULK: Final = "bulk"
LANES: Final = (SINGLE, BULK)
"""Single uploads and bulk uploads."""

BULK_SHARE: Final = 4
"""While both kinds wait, one in this many places of a batch goes to bulk uploads, the rest to single ones."""

RESERVE: Final = 10
"""One in this many places of the queue is kept for single uploads: bulk ones must not have them refused."""

SHARE: Final = {SINGLE: 1 - 1 / BULK_SHARE, BULK: 1 / BULK_SHARE}
"""Each lane's part of the work while both wait."""


def room(lane: str, max_queued: int) -> int:
    """Return how many images may wait, of both lanes together, when one of `lane` is accepted."""
    return max_queued - (max_queued // RESERVE if lane == BULK else 0)
