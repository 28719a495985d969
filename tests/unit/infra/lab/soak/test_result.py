"""infra.lab.soak.result: tables and JSON of a soak."""

from __future__ import annotations

from infra.lab.soak.checker import Verdict
from infra.lab.soak.result import FaultResult, SoakResult


def result(*faults: FaultResult) -> SoakResult:
    """A soak in which nothing was lost."""
    verdict = Verdict(
        accepted=3,
        settled=3,
        states={"classified": 3},
        lost=0,
        doubled=0,
        duplicates=0,
        unfed=0,
        refed=0,
        misfed=0,
        undelivered={"webhook": 0},
        disordered={"webhook": 0},
        stale=0,
        balanced=True,
    )
    return SoakResult(seconds=60, seed=1, verdict=verdict, rejected=0, faults=list(faults), archived=0.5)


def test_the_max_memory_of_each_service_is_told() -> None:
    """A service that was down for a while counts with its other samples."""
    soaked = result(
        FaultResult("a", 1, 0.5, {"api": 50_000_000, "redis": 9_000_000}),
        FaultResult("b", 1, 0.5, {"api": 70_000_000}),
    )
    assert soaked.to_json()["max_memory"] == {"api": 70_000_000, "redis": 9_000_000}
    assert "| api: maximum memory, MB | 70 |" in soaked.to_markdown()


def test_a_late_recovery_is_counted_and_loses_nothing() -> None:
    """Only where something is promised, and only beyond it."""
    soaked = result(
        FaultResult("a", 1, 15.1, max_recovery=15.0),
        FaultResult("a", 1, 15.0, max_recovery=15.0),
        FaultResult("b", 1, 99.0),
    )
    assert (soaked.late, soaked.good) == (1, True)
    assert "| faults with a late recovery, delivery or upload | 1 |" in soaked.to_markdown()


def test_a_late_or_missing_delivery_breaks_a_promise() -> None:
    """As a recovery does: late after a kill, and missing after any fault."""
    late = result(
        FaultResult("a", 1, 1.0, max_recovery=15.0, delivery=15.1), FaultResult("b", 1, 1.0, delivery=99.0)
    )
    assert (late.late, late.good) == (1, True)
    missing = result(FaultResult("a", 1, 1.0, delivery=None))
    assert (missing.late, missing.good) == (0, False)
    assert "| a | 1 | 1.0 | 1.0 | 0.0 | not recovered |" in missing.to_markdown()


def test_a_late_answer_is_counted_and_loses_nothing() -> None:
    """An upload may take long where nothing is promised, such as while Redis is away."""
    soaked = result(
        FaultResult("slow", 1, 0.1, answer=2.1, max_answer=2.0),
        FaultResult("slow", 1, 0.1, answer=1.9, max_answer=2.0),
        FaultResult("down", 1, 0.1, answer=30.0),
    )
    assert (soaked.late, soaked.good) == (1, True)
    assert "| slow | 2 | 0.1 | 0.1 | 2.1 | 0.0 |" in soaked.to_markdown()


def test_a_missing_recovery_breaks_the_promise() -> None:
    """The fault has neither a median nor a longest recovery, since one recovery is unknown."""
    soaked = result(FaultResult("a", 1, 2.0), FaultResult("a", 1, None), FaultResult("b", 1, 3.0))
    assert not soaked.good
    assert list(soaked.by_fault()) == [
        ("a", 2, None, None, 0.0, 0.0),
        ("b", 1, 3.0, 3.0, 0.0, 0.0),
    ]
