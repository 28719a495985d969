"""Counts of frames by camera and hour: sampled = accepted + spooled + skipped + dropped + refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Fate(Enum):
    """What became of a sampled frame that is no longer in the spool.

    Attributes:
        ACCEPTED: the server has it.
        SKIPPED: it nearly equalled the one before, and was not kept.
        DROPPED: the spool was full, or it was too old, or the disk lost it.
        REFUSED: the server rejects this image for ever.
    """

    ACCEPTED = "accepted"
    SKIPPED = "skipped"
    DROPPED = "dropped"
    REFUSED = "refused"


COUNTERS = ("sampled", *(fate.value for fate in Fate))
"""Counters that are kept; `spooled` is the number of frames in the spool."""


@dataclass(frozen=True)
class Row:
    """Counts of one camera's frames that were captured in one hour.

    Attributes:
        camera: its id.
        hour: begin of the hour (UTC), such as `2026-01-31T07:00:00Z`.
        counts: by counter, with `spooled`.
        reported: whether the server has them.
    """

    camera: str
    hour: str
    counts: Mapping[str, int]
    reported: bool = False

    @property
    def balanced(self) -> bool:
        """Whether every sampled frame is in exactly one place."""
        return self.counts["sampled"] == sum(
            number for name, number in self.counts.items() if name != "sampled"
        )


Changes = Counter[tuple[str, str, str]]
"""Numbers to add, by camera, hour and counter."""


def total(rows: Iterable[Row]) -> dict[str, int]:
    """Return the sums of the counters."""
    sums = dict.fromkeys((*COUNTERS, "spooled"), 0)
    for row in rows:
        for name, number in row.counts.items():
            sums[name] += number
    return sums
