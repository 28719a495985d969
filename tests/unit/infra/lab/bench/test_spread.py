"""infra.lab.bench.spread and sizing: statistics and sizes from measured values."""

from __future__ import annotations

import pytest

from infra.lab.bench.sizing import CAMERAS, FRAMES_PER_SECOND, size_fleet
from infra.lab.bench.spread import Latency, Spread, latency, percentile, spread


def test_a_percentile_is_a_value_that_was_measured() -> None:
    """Nearest rank: 99 % of a hundred values do not exceed the 99th."""
    values = list(range(100, 0, -1))
    assert [percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert percentile([7.0], 0.99) == 7.0


def test_latencies_are_milliseconds_with_the_spread_of_rounds() -> None:
    """Each round has its own percentiles; the median of these and their extremes are shown."""
    latencies = latency([[0.001] * 99 + [0.5], [0.002] * 100, [0.003] * 100])
    assert latencies == Latency(300, Spread(2.0, 1.0, 3.0), Spread(2.0, 1.0, 3.0), Spread(2.0, 1.0, 3.0))
    assert spread([3.0, 1.0, 2.0]) == Spread(2.0, 1.0, 3.0)


def test_a_fleet_is_sized_by_cpu_time() -> None:
    """With 8 ms of a worker an image, one at 80 % does 100 a second. The load generator does not count."""
    cpu_ms = {
        "worker parent": 1.0,
        "worker child": 7.0,
        "api": 1.5,
        "redis": 0.5,
        "s3": 2.0,
        "load generator": 50.0,
    }
    sizing = size_fleet(cpu_ms)
    assert (sizing.worker_ms, sizing.other_ms) == pytest.approx((8.0, 4.0))
    needs = {(need.cameras, need.frames_per_second): need for need in sizing.needs}
    assert len(needs) == len(CAMERAS) * len(FRAMES_PER_SECOND)
    assert (needs[1, 1].workers, needs[1, 1].other_cores) == (1, 1)
    assert (needs[16, 25].workers, needs[16, 25].other_cores) == (4, 2)
    assert (needs[256, 10].workers, needs[256, 10].other_cores) == (26, 13)
