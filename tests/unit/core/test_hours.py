"""core.hours: the ledger's hours."""

from __future__ import annotations

from datetime import UTC, datetime

from core.hours import hour_of, start_of


def test_an_hour_is_the_same_for_both_kinds_of_times() -> None:
    """And tells when it begins."""
    moment = datetime(2026, 3, 1, 12, 59, 59, tzinfo=UTC)
    assert hour_of(moment) == hour_of(round(moment.timestamp() * 1000)) == "2026030112"
    assert start_of("2026030112") == datetime(2026, 3, 1, 12, tzinfo=UTC)
