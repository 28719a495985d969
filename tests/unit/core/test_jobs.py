"""core.jobs: records of jobs."""

from __future__ import annotations

from core.jobs import JobState


def test_only_queued_is_not_terminal() -> None:
    """Every state but one is final."""
    assert [state for state in JobState if not state.terminal] == [JobState.QUEUED]
