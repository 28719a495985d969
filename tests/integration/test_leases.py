"""worker.leases on a real Redis: how held messages are returned and renewed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from core.jobs import image_key, job_id_of, new_job_id
from core.ledger import JobStore
from core.queue import QUEUES, Envelope, keys_in, make_app
from core.settings import Settings
from worker.leases import Leases

_QUEUE = QUEUES["single"]


def _waiting(jobs: JobStore) -> list[dict[str, Any]]:
    """Return the messages in the queue in the order in which they are served."""
    return [json.loads(message) for message in reversed(jobs.client.lrange(_QUEUE, 0, -1))]


@pytest.fixture
def ids(settings: Settings, jobs: JobStore) -> list[str]:
    """Five jobs' ids, whose messages wait in this order."""
    envelope = Envelope(make_app(settings))
    keys = [image_key(new_job_id(), "belt", "jpeg") for _ in range(5)]
    jobs.client.lpush(_QUEUE, *(envelope.message([key], "single") for key in keys))
    return [job_id_of(key) for key in keys]


@pytest.fixture
def channel(settings: Settings, ids: list[str]) -> Iterator[Any]:
    """A kombu channel that holds the first four messages; the second is acknowledged."""
    with make_app(settings).connection_for_read() as connection:
        queue = connection.SimpleQueue(_QUEUE)
        held = [queue.get(timeout=5) for _ in range(4)]
        held[1].ack()
        yield held[0].channel


def test_a_closed_channel_returns_what_it_holds_in_order_and_unmarked(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """Neither lost nor doubled, before those that still wait, and not as if they had crashed a worker."""
    Leases().watch(channel)
    channel.close()
    found = _waiting(jobs)
    assert [job_id_of(keys_in(message)[0]) for message in found] == [ids[0], *ids[2:]]
    assert not any(message["headers"].get("redelivered") for message in found)
    assert jobs.client.hlen("unacked") == jobs.client.zcard("unacked_index") == 0


def test_what_was_returned_by_another_is_not_returned_again(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """A lease that ran out while the connection was broken is another worker's by now."""
    Leases().watch(channel)
    tag = next(iter(channel.qos._delivered))
    channel.qos.restore_by_tag(tag)
    channel.close()
    assert sorted(job_id_of(keys_in(message)[0]) for message in _waiting(jobs)) == sorted([ids[0], *ids[2:]])


def test_messages_whose_batch_crashed_are_returned_as_such(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """Whoever gets one next runs its jobs alone; the others run as ever."""
    leases = Leases()
    leases.watch(channel)
    leases.suspect(next(iter(channel.qos._delivered)))
    channel.close()
    marked = {
        job_id_of(keys_in(message)[0]): message["headers"].get("redelivered") for message in _waiting(jobs)
    }
    assert marked == {ids[0]: True, ids[2]: None, ids[3]: None, ids[4]: None}


def test_renewing_moves_held_messages_only(jobs: JobStore, channel: Any) -> None:
    """One acknowledged meanwhile does not come back."""
    for tag in channel.qos._delivered:
        jobs.client.zadd("unacked_index", {tag: 1.0}, xx=True)
    Leases().renew(channel)
    tags = jobs.client.zrange("unacked_index", 0, -1)
    scores = [jobs.client.zscore("unacked_index", str(tag)) or 0.0 for tag in tags]
    assert len(scores) == 3
    assert all(time.time() - score < 60 for score in scores)
