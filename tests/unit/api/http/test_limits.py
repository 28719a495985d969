"""api.http.limits: which transfers are given up."""

from __future__ import annotations

import pytest

from api.http.limits import GRACE_SECONDS, LEAST_RATE, TRANSFER_SECONDS, Pace


@pytest.mark.parametrize("rate", [LEAST_RATE, 100 * LEAST_RATE])
def test_what_moves_may_go_on(rate: int) -> None:
    """For as long as any transfer may take."""
    pace = Pace(0.0)
    assert not any(pace.is_too_slow(second, second * rate) for second in range(int(TRANSFER_SECONDS)))
    assert pace.is_too_slow(TRANSFER_SECONDS + 1, int(TRANSFER_SECONDS) * rate)


def test_what_stands_still_may_not() -> None:
    """However much came before."""
    pace = Pace(0.0)
    assert not pace.is_too_slow(1, 100_000_000)
    assert not pace.is_too_slow(GRACE_SECONDS, 100_000_000)
    assert pace.is_too_slow(GRACE_SECONDS + 2, 100_000_000)


def test_what_trickles_may_not() -> None:
    """A byte a second is given up after the grace."""
    pace = Pace(0.0)
    assert next(second for second in range(100) if pace.is_too_slow(second, second)) == GRACE_SECONDS + 1
