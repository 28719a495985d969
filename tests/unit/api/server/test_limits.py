"""api.server.limits: which transfers are aborted."""

from __future__ import annotations

import pytest

from api.server.limits import MIN_RATE, STALL_TIMEOUT, TRANSFER_TIMEOUT, TransferMonitor


@pytest.mark.parametrize("rate", [MIN_RATE, 100 * MIN_RATE])
def test_a_transfer_at_the_minimum_rate_goes_on(rate: int) -> None:
    """Until the time limit of every transfer."""
    monitor = TransferMonitor(0.0)
    assert not any(monitor.is_too_slow(second, second * rate) for second in range(int(TRANSFER_TIMEOUT)))
    assert monitor.is_too_slow(TRANSFER_TIMEOUT + 1, int(TRANSFER_TIMEOUT) * rate)


def test_a_stalled_transfer_is_aborted() -> None:
    """However many bytes came before."""
    monitor = TransferMonitor(0.0)
    assert not monitor.is_too_slow(1, 100_000_000)
    assert not monitor.is_too_slow(STALL_TIMEOUT, 100_000_000)
    assert monitor.is_too_slow(STALL_TIMEOUT + 2, 100_000_000)


def test_a_trickling_transfer_is_aborted() -> None:
    """A byte a second is aborted once the minimum rate applies."""
    monitor = TransferMonitor(0.0)
    assert next(second for second in range(100) if monitor.is_too_slow(second, second)) == STALL_TIMEOUT + 1
