"""Isolated jobs run one by one; the result of one decides whether the next runs now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pytest

from core.jobs import JobState
from worker.classify import Classifier, Result, Retry
from worker.transport.delivery import Item

CLASSIFIED = JobState.CLASSIFIED
OUTAGE, BACKOFF, ISOLATED = Retry.AFTER_OUTAGE, Retry.WITH_BACKOFF, Retry.ISOLATED


@pytest.mark.parametrize(
    ("attempts", "results"),
    [
        ([CLASSIFIED, JobState.FAILED, CLASSIFIED], [CLASSIFIED, JobState.FAILED, CLASSIFIED]),
        ([CLASSIFIED, OUTAGE], [CLASSIFIED, OUTAGE, OUTAGE]),
        ([CLASSIFIED, BACKOFF], [CLASSIFIED, BACKOFF, ISOLATED]),
        ([BACKOFF], [BACKOFF, ISOLATED, ISOLATED]),
    ],
)
def test_isolated_jobs_wait_for_storage_once(
    monkeypatch: pytest.MonkeyPatch, attempts: list[Result], results: list[Result]
) -> None:
    """After one time-out of storage the remaining jobs do not run until later."""
    remaining = iter(attempts)

    def attempt(_: Classifier, items: Sequence[Item]) -> list[Result]:
        return [next(remaining) for _ in items]

    monkeypatch.setattr(Classifier, "_attempt", attempt)
    nothing = cast(Any, None)
    classifier = Classifier(nothing, nothing, nothing, timeout=60)
    items = [Item(f"images/c/2026/01/01/{at}.jpeg", isolated=True) for at in range(3)]
    try:
        assert classifier.run(items) == results
    finally:
        classifier._loop.close()
