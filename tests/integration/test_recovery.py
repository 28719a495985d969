"""worker.periodic.recovery on a real Redis: which messages count as lost, and how they are sent again."""

from __future__ import annotations

import json

import pytest

from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome
from core.lanes import LANES
from core.messages import QUEUES, Envelope, keys_in, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import job_id_of
from worker.periodic.recovery import Reconciler


@pytest.fixture
def envelope(settings: Settings) -> Envelope:
    """Makes messages as the API does."""
    return Envelope(make_app(settings))


@pytest.fixture
def reconciler(jobs: JobStore, envelope: Envelope) -> Reconciler:
    """The one that leads."""
    return Reconciler("leader", jobs, jobs.client, envelope)


def _accept(jobs: JobStore, envelope: Envelope, lane: str, age_ms: int) -> str:
    new = Job(new_job_id(), "belt", "jpeg", 1)
    jobs.accept([new], lane, QUEUES[lane], [envelope.message([new.image_key], lane)])
    jobs.client.zincrby(f"ws:pending:{lane}", -age_ms, new.id)
    return new.id


def _queued(jobs: JobStore, lane: str) -> list[str]:
    """Return the ids in the lane's queue in the order in which they are served."""
    messages = reversed(jobs.client.lrange(QUEUES[lane], 0, -1))
    return [job_id_of(key) for message in messages for key in keys_in(json.loads(message))]


@pytest.mark.parametrize("lane", LANES)
def test_lost_messages_are_sent_again_once_and_in_order(
    jobs: JobStore, envelope: Envelope, reconciler: Reconciler, lane: str
) -> None:
    """Seen missing twice, each is sent once, however often one looks; the oldest is served first."""
    ids = [_accept(jobs, envelope, lane, age_ms=60_000 - 5_000 * number) for number in range(5)]
    jobs.client.delete(QUEUES[lane])
    assert [reconciler.run() for _ in range(5)] == [0, 5, 0, 0, 0]
    assert _queued(jobs, lane) == ids


def test_what_waits_or_is_held_is_not_lost(
    jobs: JobStore, envelope: Envelope, reconciler: Reconciler
) -> None:
    """A job in the queue, one that a worker holds, one just accepted, one that has settled: none is sent."""
    _held, settled, queued = (
        _accept(jobs, envelope, "single", age_ms=age) for age in (90_000, 80_000, 70_000)
    )
    taken = jobs.client.rpop(QUEUES["single"])
    jobs.client.hset("unacked", "tag", json.dumps([json.loads(str(taken)), "", QUEUES["single"]]))
    jobs.settle([Outcome(settled, JobState.FAILED, error="x")], "m")
    _accept(jobs, envelope, "bulk", age_ms=0)
    jobs.client.delete(QUEUES["bulk"])
    assert [reconciler.run() for _ in range(3)] == [0, 0, 0]
    assert _queued(jobs, "single") == [settled, queued]
    assert jobs.pending() == 3


def test_lost_messages_are_found_though_the_clock_was_set_back(
    jobs: JobStore, envelope: Envelope, reconciler: Reconciler
) -> None:
    """Jobs that seem to be of the next hour are looked for all the same."""
    ids = [_accept(jobs, envelope, "single", age_ms=-3_600_000 - number) for number in range(3)]
    jobs.client.delete(QUEUES["single"])
    assert [reconciler.run() for _ in range(3)] == [0, 3, 0]
    assert _queued(jobs, "single") == ids


def test_only_one_worker_looks(jobs: JobStore, envelope: Envelope, reconciler: Reconciler) -> None:
    """While one leads, another leaves it to it."""
    _accept(jobs, envelope, "single", age_ms=60_000)
    jobs.client.delete(QUEUES["single"])
    other = Reconciler("other", jobs, jobs.client, envelope)
    assert reconciler.run() == 0
    assert [other.run() for _ in range(3)] == [0, 0, 0]
    assert reconciler.run() == 1


def test_foreign_messages_do_not_stop_it(jobs: JobStore, envelope: Envelope, reconciler: Reconciler) -> None:
    """Somebody else's message in a queue, or held by a worker, names no job of ours."""
    lost = _accept(jobs, envelope, "bulk", age_ms=60_000)
    jobs.client.delete(QUEUES["bulk"])
    jobs.client.lpush(QUEUES["single"], json.dumps({"body": "bm9uc2Vuc2U="}))
    jobs.client.hset("unacked", "tag", json.dumps([{"body": ""}, "", "other"]))
    assert [reconciler.run(), reconciler.run()] == [0, 1]
    assert _queued(jobs, "bulk") == [lost]
