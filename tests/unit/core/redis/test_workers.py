"""core.redis.workers: workers report which weights they run; those of one model are counted together."""

from __future__ import annotations

from core.redis.workers import Running, reported, running_models


def test_what_is_reported_is_counted() -> None:
    """Beside the totals of a report; workers that do not say are left out."""
    slow, fast = Running("float", "2026.01.31+0123"), Running("int8", "2026.01.31+4567")
    reports = {
        "a": reported(slow) | {"images": 3.0},
        "b": reported(fast),
        "c": reported(fast),
        "d": {"at": 1.0},
    }
    assert running_models(reports) == {slow: 1, fast: 2}
