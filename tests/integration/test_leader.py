"""core.redis.leader: one process at a time has a role."""

from __future__ import annotations

from core.redis import keys
from core.redis.job_store import JobStore
from core.redis.leader import Leader


def test_one_leads_until_it_stops(jobs: JobStore) -> None:
    """It renews its lock; another one follows when the lock has ended, and roles are independent."""
    first, second = (Leader(jobs.client, "test", name, seconds=60) for name in ("first", "second"))
    assert first.lead()
    assert not second.lead()
    assert not second.acquire()
    assert Leader(jobs.client, "other", "second", seconds=60).acquire()

    jobs.client.expire(keys.leader("test"), 10)
    assert first.lead()
    assert jobs.client.ttl(keys.leader("test")) > 30

    jobs.client.delete(keys.leader("test"))  # as Redis does when its time is over
    assert second.lead()
    assert not first.lead()
