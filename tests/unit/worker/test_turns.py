"""Jobs delivered before run one by one; what one of them meets decides whether the next is tried now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from core.jobs import JobState
from worker.classify import ALONE, NOT_SERVED, PUT_BACK, Classifier, Item, Result

CLASSIFIED = JobState.CLASSIFIED


@pytest.mark.parametrize(
    ("met", "results"),
    [
        ([CLASSIFIED, JobState.FAILED, CLASSIFIED], [CLASSIFIED, JobState.FAILED, CLASSIFIED]),
        ([CLASSIFIED, PUT_BACK], [CLASSIFIED, PUT_BACK, PUT_BACK]),
        ([CLASSIFIED, NOT_SERVED], [CLASSIFIED, NOT_SERVED, ALONE]),
        ([NOT_SERVED], [NOT_SERVED, ALONE, ALONE]),
    ],
)
def test_a_turn_waits_for_storage_once(
    monkeypatch: pytest.MonkeyPatch, met: list[Result], results: list[Result]
) -> None:
    """After one time-out of storage the rest of the turn is left for later, none of it tried."""
    left = iter(met)

    def attempt(_: Classifier, items: Sequence[Item]) -> list[Result]:
        return [next(left) for _ in items]

    monkeypatch.setattr(Classifier, "_attempt", attempt)
    nothing = cast(Any, None)
    classifier = Classifier(nothing, nothing, nothing, timeout=60)
    items = [Item(f"images/c/2026/01/01/{at}.jpeg", repeated=True) for at in range(3)]
    try:
        assert classifier.run(items) == results
    finally:
        classifier._loop.close()
