"""The feed, as the readers of a process share it."""

from __future__ import annotations

from core.redis.feed import Feed
from core.redis.job_store import JobStore
from core.redis.recent_results import RecentResults
from core.redis.results import ResultReader


def recent_of(jobs: JobStore) -> RecentResults:
    """Return the recent results that the readers of a process share."""
    return RecentResults(ResultReader(Feed(jobs.client), jobs), gather=0.0)
