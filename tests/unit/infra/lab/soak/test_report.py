"""The report of a soak: what its tables and its JSON say."""

from __future__ import annotations

from infra.lab.soak.checker import Verdict
from infra.lab.soak.report import Disturbance, Report


def report(*disturbances: Disturbance) -> Report:
    """A soak in which nothing was lost."""
    verdict = Verdict(
        accepted=3, answered=3, states={"classified": 3}, lost=0, doubled=0, duplicates=0, balanced=True
    )
    return Report(seconds=60, seed=1, verdict=verdict, refused=0, disturbances=list(disturbances))


def test_the_most_memory_of_each_service_is_told() -> None:
    """A service that was away for a while counts with what it had otherwise."""
    found = report(
        Disturbance("a", 1, 0.5, {"api": 50_000_000, "redis": 9_000_000}),
        Disturbance("b", 1, 0.5, {"api": 70_000_000}),
    )
    assert found.to_json()["most_memory"] == {"api": 70_000_000, "redis": 9_000_000}
    assert "| api: most memory, MB | 70 |" in found.to_markdown()


def test_a_late_recovery_is_counted_and_loses_nothing() -> None:
    """Only where something is promised, and only beyond it."""
    found = report(
        Disturbance("a", 1, 15.1, promised=15.0),
        Disturbance("a", 1, 15.0, promised=15.0),
        Disturbance("b", 1, 99.0),
    )
    assert (found.late, found.good) == (1, True)
    assert "| disturbances recovered from, or uploads answered, too late | 1 |" in found.to_markdown()


def test_a_late_answer_is_counted_and_loses_nothing() -> None:
    """An upload may take long where nothing is promised, such as while Redis is away."""
    found = report(
        Disturbance("slow", 1, 0.1, answer=2.1, promised_answer=2.0),
        Disturbance("slow", 1, 0.1, answer=1.9, promised_answer=2.0),
        Disturbance("down", 1, 0.1, answer=30.0),
    )
    assert (found.late, found.good) == (1, True)
    assert "| slow | 2 | 0.1 | 0.1 | 2.1 |" in found.to_markdown()


def test_a_disturbance_that_was_not_recovered_from_breaks_the_promise() -> None:
    """Of its kind neither median nor longest recovery is told, since one of them is unknown."""
    found = report(Disturbance("a", 1, 2.0), Disturbance("a", 1, None), Disturbance("b", 1, 3.0))
    assert not found.good
    assert list(found.by_kind()) == [("a", 2, None, None, 0.0), ("b", 1, 3.0, 3.0, 0.0)]
