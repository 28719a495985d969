"""Figures with their spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of several rounds, the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Return the spread of at least one value."""
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least `share` of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one kind of call, milliseconds; the spread is that of the rounds' own percentiles."""

    samples: int
    p50: Spread
    p95: Spread
    p99: Spread


def latency(rounds: Sequence[Sequence[float]]) -> Latency:
    """Return the percentiles of seconds measured in several rounds, each of at least one call."""
    return Latency(
        sum(map(len, rounds)),
        *(spread(1000 * percentile(one, share) for one in rounds) for share in (0.5, 0.95, 0.99)),
    )
