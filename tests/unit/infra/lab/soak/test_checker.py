"""infra.lab.soak: a loss, a double count or a change of state must not go unnoticed."""

from __future__ import annotations

from typing import Any, cast

import pytest

from core.redis.ledger import Balance, Counts, Ledger, LedgerRow
from infra.lab.soak.checker import Checker, Verdict, judge
from infra.lab.soak.report import Disturbance, Report


def _job(job_id: str, state: str = "classified") -> dict[str, Any]:
    return {"id": job_id, "state": state, "settled_at": "2026-01-31T07:15:01.000Z"}


def _judge(checker: Checker, waiting: int = 0, **moved: int) -> Verdict:
    class Counted:
        def balance(self) -> Balance:
            return Balance(Counts(moved), waiting)

        def names(self, *_: Any, **__: Any) -> list[str]:
            return ["row"]

        def rows(self, _: Any) -> list[LedgerRow]:
            return [LedgerRow("2026013107", "belt", Counts({**moved, "pending": waiting}))]

    return judge(checker, cast(Ledger, Counted()))


@pytest.fixture
def checker() -> Checker:
    """Three jobs accepted, two classified, one failed because its image was damaged."""
    made = Checker()
    made.accept("a")
    made.accept("b")
    made.accept("c", intact=False)
    made.see([_job("a"), _job("b"), _job("c", "failed")], [])
    return made


def test_books_that_agree_with_the_ledger_are_good(checker: Checker) -> None:
    """Every image accepted is counted once."""
    verdict = _judge(checker, received=3, classified=2, failed=1)
    assert verdict.good
    assert (verdict.lost, verdict.doubled, verdict.answered) == (0, 0, 3)


def test_a_job_that_never_settles_is_lost(checker: Checker) -> None:
    """Though the ledger balances."""
    checker.accept("d")
    verdict = _judge(checker, waiting=1, received=4, classified=2, failed=1)
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
    verdict = _judge(checker, **moved)
    assert verdict.doubled
    assert not verdict.good


def test_a_terminal_state_that_changes_is_doubled(checker: Checker) -> None:
    """A job settles once."""
    checker.see([_job("a", "failed")], [])
    assert _judge(checker, received=3, classified=2, failed=1).doubled == 1


def test_a_row_that_does_not_balance_is_told(checker: Checker) -> None:
    """One image too many in no state at all."""
    assert not _judge(checker, received=4, classified=2, failed=1).balanced


def test_the_report_names_every_kind_and_what_was_not_recovered(checker: Checker) -> None:
    """Counts, medians and the longest, as tables and as JSON; the soak is not good."""
    verdict = _judge(checker, received=3, classified=2, failed=1)
    found = [
        Disturbance("kill", 1, 2.0),
        Disturbance("kill", 1, 4.0, answer=0.5),
        Disturbance("pause", 0, None),
    ]
    report = Report(90.0, 7, verdict, 0, found)
    assert not report.good
    assert "| kill | 2 | 3.0 | 4.0 | 0.5 |" in report.to_markdown()
    assert "| pause | 1 | not recovered | not recovered | 0.0 |" in report.to_markdown()
    assert report.to_json()["kinds"][0] == {
        "kind": "kill",
        "count": 2,
        "recovery_median": 3.0,
        "recovery_longest": 4.0,
        "answer_longest": 0.5,
    }
    assert Report(90.0, 7, verdict, 0, found[:2]).good
    assert not Report(90.0, 7, verdict, 1, found[:2]).good
