"""Frames have the right time though the machine's clock is wrong."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from wastestream.gateway.clock import ServerClock, Stamp, elapsed, stamp


@pytest.fixture
def clock() -> ServerClock:
    """A server's clock that has been seen."""
    clock = ServerClock()
    clock.observe(formatdate(time.time(), usegmt=True))
    return clock


def test_a_clock_that_agrees_is_believed(clock: ServerClock) -> None:
    """To the microsecond: the camera may know better than the server."""
    moment = stamp(time.time() - 3)
    assert clock.captured_at(moment) == moment.wall
    assert abs(clock.skew()) < 2


@pytest.mark.parametrize("wrong_by", [-1.8e9, -3600, 40, 1e6])
def test_frames_of_a_wrong_clock_get_times_by_the_servers(clock: ServerClock, wrong_by: float) -> None:
    """Those before and after somebody set it."""
    now = stamp()
    moment = Stamp(now.wall + wrong_by, now.boot, now.elapsed - 100)
    assert clock.captured_at(moment) == pytest.approx(now.wall - 100, abs=2)


@pytest.mark.parametrize(("wrong_by", "corrected_by"), [(3600, 3600), (-3600, -3600), (3, 0)])
def test_times_of_a_wrong_clock_are_corrected(wrong_by: float, corrected_by: float) -> None:
    """Seen by the server, whose clock is behind or ahead."""
    clock = ServerClock()
    clock.observe(formatdate(time.time() - wrong_by, usegmt=True))
    now = time.time()
    assert now - clock.corrected(now) == pytest.approx(corrected_by, abs=1)


def test_of_an_earlier_start_only_the_clock_is_known(clock: ServerClock) -> None:
    """So it is believed."""
    assert clock.captured_at(Stamp(1.0, "another", elapsed())) == 1.0


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_an_answer_without_a_date_tells_nothing(date: str) -> None:
    """As of a proxy."""
    clock = ServerClock()
    clock.observe(date)
    assert clock.skew() == 0.0
    assert clock.captured_at(Stamp(5.0, stamp().boot, 1.0)) == 5.0
