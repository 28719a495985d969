"""core.redis.eta: service rate, places in the queue, and times until jobs settle."""

from __future__ import annotations

import pytest

from core.redis.eta import Place, QueueState

NOW = 1_700_000_000_000


def _queue(
    single: int = 0, bulk: int = 0, jobs: float = 100, ms: float = 1000, since: int = NOW
) -> QueueState:
    return QueueState.measured({"single": single, "bulk": bulk}, NOW, [jobs, ms, since])


def test_the_rate_is_jobs_over_the_time_in_which_there_was_work() -> None:
    """A hundred in one second; a quiet time since then changes nothing."""
    assert _queue(single=1).rate == 100
    assert _queue(since=NOW - 3_600_000).rate == 100


def test_standing_still_counts() -> None:
    """While jobs wait and none settles, the rate falls; after long enough nothing is said any more."""
    rates = [_queue(single=1, since=NOW - still).rate for still in (0, 1_000, 10_000, 60_000)]
    assert rates == sorted(rates, key=lambda rate: rate or 0, reverse=True)
    assert rates[1] == pytest.approx(50, rel=0.05)
    assert _queue(single=1, since=NOW - 3_600_000).rate is None


@pytest.mark.parametrize("measure", [[0, 0, 0], [0, 0, NOW]])
def test_nothing_is_known_at_first(measure: list[float]) -> None:
    """No rate, and places without a time."""
    queue = QueueState.measured({"single": 3, "bulk": 0}, NOW, measure)
    assert (queue.rate, queue.seconds_for(5)) == (None, None)
    assert queue.place("single", 2) == Place(2, None)


@pytest.mark.parametrize(
    ("single", "bulk", "lane", "ahead", "jobs"),
    [
        (10, 0, "single", 9, 10),  # alone, its lane has all of the work
        (9, 1000, "single", 8, 12),  # beside a backlog of the other, its three quarters
        (9, 1000, "bulk", 999, 1009),  # the other lane is soon empty
        (1000, 10, "bulk", 4, 20),  # its quarter
    ],
)
def test_a_lane_gets_its_share_until_the_other_is_empty(
    single: int, bulk: int, lane: str, ahead: int, jobs: int
) -> None:
    """The time is that of all jobs that will be done until then."""
    assert _queue(single, bulk).place(lane, ahead).eta_seconds == pytest.approx(jobs / 100)


def test_a_clock_set_back_is_no_standing_still() -> None:
    """A measure of the future counts as one of now."""
    assert _queue(single=1, since=NOW + 3_600_000).rate == 100


def test_a_lane_of_dear_jobs_is_not_promised_the_pace_of_the_others() -> None:
    """Twenty cheap jobs a second predict nothing about bulk jobs of two seconds each."""
    measures = {"single": [20_000, 1_000_000, NOW], "bulk": [500, 1_000_000, NOW]}
    queue = QueueState.measured({"single": 1, "bulk": 100}, NOW, [20_500, 1_000_000, NOW], measures)
    assert queue.place("bulk", 99).eta_seconds == pytest.approx(200)
    assert queue.place("single", 0).eta_seconds == pytest.approx(1 / 15, rel=0.05)
    still = QueueState.measured({"single": 1, "bulk": 100}, NOW, [20_500, 1_000_000, NOW - 30_000], measures)
    assert (still.place("bulk", 99).eta_seconds or 0) > 200


@pytest.mark.parametrize(
    ("ago", "paused", "seconds"),
    [
        (1_000, frozenset[str](), 0.8),  # the mean of 0.6 without more single jobs and 1 with as many
        (60_000, frozenset[str](), 0.6),  # the last single job is long ago
        (1_000, frozenset({"single"}), 0.6),
    ],
)
def test_the_other_lane_may_go_on(ago: int, paused: frozenset[str], seconds: float) -> None:
    """Four of ten jobs were single ones; how long six bulk jobs take depends on how many more come."""
    measures = {"single": [40, 10_000, NOW - ago], "bulk": [60, 10_000, NOW]}
    queue = QueueState.measured({"single": 0, "bulk": 6}, NOW, [100, 10_000, NOW], measures, paused)
    assert queue.place("bulk", 5).eta_seconds == pytest.approx(seconds)


def test_a_backlog_of_the_other_lane_counts_whatever_the_rates_were() -> None:
    """Bulk jobs had all the work until single ones came: now they get a quarter."""
    measures = {"single": [1, 10_000, NOW], "bulk": [99, 10_000, NOW]}
    queue = QueueState.measured({"single": 1000, "bulk": 6}, NOW, [100, 10_000, NOW], measures)
    assert queue.place("bulk", 5).eta_seconds == pytest.approx(2.4)


def test_a_paused_lane_is_no_work() -> None:
    """It does not stand still, its jobs have no time, and those of the other lane do not wait for them."""
    measure, paused = [100, 1000, NOW - 3_600_000], frozenset({"bulk"})
    state = QueueState.measured({"single": 0, "bulk": 1000}, NOW, measure, paused=paused)
    assert state.rate == 100
    assert state.place("bulk", 3) == Place(3, None)
    assert state.place("single", 8).eta_seconds == pytest.approx(9 / 100)
    assert QueueState.measured({"single": 1, "bulk": 1000}, NOW, measure, paused=paused).rate is None
