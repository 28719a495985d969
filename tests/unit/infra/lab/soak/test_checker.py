"""infra.lab.soak: a loss, a double count or a change of state must not go unnoticed."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime

import pytest

from infra.lab.soak.checker import Checker, FeedEntry, Verdict, judge
from infra.lab.soak.result import FaultResult, SoakResult
from wastestream import Counts, Job, Ledger, Row, State

_TIME = datetime(2026, 1, 31, 7, 15, 1, tzinfo=UTC)


def _job(job_id: str, state: State = "classified") -> Job:
    return Job(job_id, state, "belt", None, _TIME, None, _TIME, None, None)


def _judge(
    checker: Checker,
    waiting: int = 0,
    fed: str | None = None,
    received: str | None = None,
    retained: dict[str, str] | None = None,
    /,
    **moved: int,
) -> Verdict:
    """Judge against these counts, and a feed and a sink with these ids, of one letter each.

    The feed has the states that the checker saw, of one camera, and another sink has all results.
    """
    counts = Counts(**{field.name: 0 for field in fields(Counts)} | moved | {"pending": waiting})
    settled = counts.classified + counts.failed + counts.expired + counts.cancelled
    balanced = counts.received == settled + counts.pending
    row = Row("belt", _TIME, counts, balanced)
    ledger = Ledger(None, _TIME, _TIME, (row,), counts, counts, balanced)
    settled_ids = list(checker.settled)
    return judge(
        checker,
        ledger,
        [FeedEntry(job_id, checker.settled.get(job_id, ("", 0))[0], "belt") for job_id in fed or settled_ids],
        {"archive": settled_ids, "webhook": settled_ids if received is None else list(received)},
        retained,
    )


@pytest.fixture
def checker() -> Checker:
    """Three jobs accepted, two classified, one failed because its image was damaged."""
    checker = Checker()
    checker.accept("a")
    checker.accept("b")
    checker.accept("c", intact=False)
    checker.see([_job("a"), _job("b"), _job("c", "failed")], [])
    return checker


def test_a_record_that_agrees_with_the_ledger_is_good(checker: Checker) -> None:
    """Every image accepted is counted once."""
    verdict = _judge(checker, received=3, classified=2, failed=1)
    assert verdict.good
    assert (verdict.lost, verdict.doubled, verdict.settled) == (0, 0, 3)


@pytest.mark.parametrize(
    ("fed", "unfed", "refed"), [("ac", 1, 0), ("abcc", 0, 1), ("aac", 1, 1), ("abcd", 0, 1)]
)
def test_the_feed_has_every_settled_job_once(checker: Checker, fed: str, unfed: int, refed: int) -> None:
    """Neither fewer nor more, nor others."""
    verdict = _judge(checker, 0, fed, received=3, classified=2, failed=1)
    assert (verdict.unfed, verdict.refed, verdict.good) == (unfed, refed, False)


def test_the_feed_has_the_states_of_the_ledger(checker: Checker) -> None:
    """A job that the feed has as classified and the ledger as failed is noticed, though the totals agree."""
    verdict = _judge(checker, received=3, classified=1, failed=2)
    assert (verdict.unfed, verdict.refed, verdict.misfed, verdict.good) == (0, 0, 2, False)


@pytest.mark.parametrize(
    ("received", "undelivered", "disordered"), [("ac", 1, 0), ("acb", 0, 1), ("cab", 0, 2), ("", 3, 0)]
)
def test_a_sink_gets_every_result_in_order(
    checker: Checker, received: str, undelivered: int, disordered: int
) -> None:
    """None is missing, and none comes after a later one."""
    verdict = _judge(checker, 0, "abc", received, received=3, classified=2, failed=1)
    assert verdict.undelivered == {"archive": 0, "webhook": undelivered}
    assert verdict.disordered == {"archive": 0, "webhook": disordered}
    assert not verdict.good


def test_the_retained_message_of_a_camera_is_its_last(checker: Checker) -> None:
    """Neither an earlier one nor none."""
    for retained, stale in (({"belt": "c"}, 0), ({"belt": "b"}, 1), ({}, 1)):
        verdict = _judge(checker, 0, "abc", "abc", retained, received=3, classified=2, failed=1)
        assert (verdict.stale, verdict.good) == (stale, not stale)


def test_a_job_that_never_settles_is_lost(checker: Checker) -> None:
    """Though the ledger balances."""
    checker.accept("d")
    verdict = _judge(checker, 1, received=4, classified=2, failed=1)
    assert (verdict.lost, verdict.balanced, verdict.good) == (1, True, False)


def test_a_job_that_the_server_forgot_is_lost(checker: Checker) -> None:
    """An accepted id must stay known."""
    checker.see([], ["a"])
    assert _judge(checker, received=3, classified=2, failed=1).lost == 1


def test_an_intact_image_that_fails_is_lost(checker: Checker) -> None:
    """Its bytes were gone, or nobody could read them; the ledger balances all the same."""
    checker.accept("d")
    checker.see([_job("d", "failed")], [])
    verdict = _judge(checker, received=4, classified=2, failed=2)
    assert (verdict.lost, verdict.balanced, verdict.good) == (1, True, False)


def test_a_job_that_was_never_counted_is_lost(checker: Checker) -> None:
    """202, and no trace in the ledger."""
    assert _judge(checker, received=2, classified=1, failed=1).lost == 1


@pytest.mark.parametrize(
    "moved",
    [
        {"received": 4, "classified": 3, "failed": 1},
        {"received": 3, "classified": 3, "failed": 1},
    ],
)
def test_what_is_counted_twice_is_doubled(checker: Checker, moved: dict[str, int]) -> None:
    """Received or settled more often than there were images."""
    verdict = _judge(checker, 0, None, **moved)
    assert verdict.doubled
    assert not verdict.good


def test_a_terminal_state_that_changes_is_doubled(checker: Checker) -> None:
    """A job settles once."""
    checker.see([_job("a", "failed")], [])
    assert _judge(checker, received=3, classified=2, failed=1).doubled == 1


def test_a_row_that_does_not_balance_is_told(checker: Checker) -> None:
    """One image too many in no state at all."""
    assert not _judge(checker, received=4, classified=2, failed=1).balanced


def test_the_result_names_every_fault_and_every_missing_recovery(checker: Checker) -> None:
    """Counts, medians and the longest, as tables and as JSON; the soak is not good."""
    verdict = _judge(checker, received=3, classified=2, failed=1)
    faults = [
        FaultResult("kill", 1, 2.0),
        FaultResult("kill", 1, 4.0, answer=0.5),
        FaultResult("pause", 0, None),
    ]
    result = SoakResult(90.0, 7, verdict, 0, faults, 0.5)
    assert not result.good
    assert "| kill | 2 | 3.0 | 4.0 | 0.5 |" in result.to_markdown()
    assert "| pause | 1 | not recovered | not recovered | 0.0 |" in result.to_markdown()
    assert result.to_json()["by_fault"][0] == {
        "fault": "kill",
        "count": 2,
        "median_recovery": 3.0,
        "longest_recovery": 4.0,
        "longest_answer": 0.5,
        "longest_delivery": 0.0,
    }
    assert SoakResult(90.0, 7, verdict, 0, faults[:2], 0.5).good
    assert not SoakResult(90.0, 7, verdict, 1, faults[:2], 0.5).good
    assert not SoakResult(90.0, 7, verdict, 0, faults[:2], None).good
