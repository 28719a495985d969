"""worker.transport.leases on a real Redis: how held messages are returned and renewed."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest

from core.ids import new_job_id
from core.messages import QUEUES, Envelope, keys_in, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import image_key, job_id_of
from tests.support.cuts import lose_answer
from worker.transport.channel import TRANSPORT
from worker.transport.leases import Leases

_QUEUE = QUEUES["bulk"]  # whose messages are taken one by one

kombu: Any = import_module("kombu")  # It has no types.


def _waiting(jobs: JobStore, lane: str = "bulk") -> list[dict[str, Any]]:
    """Return the messages in the queue in the order in which they are served."""
    return [json.loads(message) for message in reversed(jobs.client.lrange(QUEUES[lane], 0, -1))]


@pytest.fixture
def ids(settings: Settings, jobs: JobStore) -> list[str]:
    """Five jobs' ids, whose messages wait in this order."""
    envelope = Envelope(make_app(settings))
    keys = [image_key(new_job_id(), "belt", "jpeg") for _ in range(5)]
    jobs.client.lpush(_QUEUE, *(envelope.message([key], "bulk") for key in keys))
    return [job_id_of(key) for key in keys]


@pytest.fixture
def channel(settings: Settings, ids: list[str]) -> Iterator[Any]:
    """A kombu channel that holds the first four messages; the second is acknowledged."""
    app = make_app(settings)
    app.conf.broker_transport = TRANSPORT
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(_QUEUE)
        held = [queue.get(timeout=5) for _ in range(4)]
        held[1].ack()
        yield held[0].channel


def test_a_closed_channel_returns_what_it_holds_in_order_and_unmarked(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """Neither lost nor doubled, before those that still wait, and not as if they had crashed a worker."""
    Leases().attach(channel)
    channel.close()
    messages = _waiting(jobs)
    assert [job_id_of(keys_in(message)[0]) for message in messages] == [ids[0], *ids[2:]]
    assert not any(message["headers"].get("redelivered") for message in messages)
    assert jobs.client.hlen("unacked") == jobs.client.zcard("unacked_index") == 0


def _is_taken(answer: Any) -> bool:
    """Say whether it is the answer of `take.lua`."""
    return isinstance(answer, list) and str(answer[0]).startswith("b'{")


def _is_recorded(answer: Any) -> bool:
    """Say whether it is the answer to recording a message that was waited for: eight more wait."""
    return bool(answer == [1, 1, 8])


@pytest.mark.parametrize("lost", [_is_taken, _is_recorded])
def test_messages_of_whose_taking_the_answer_is_lost_are_returned_unmarked(
    settings: Settings, jobs: JobStore, lost: Callable[[Any], bool]
) -> None:
    """Redis holds them for a worker that has never seen them: nobody has begun their jobs."""
    envelope = Envelope(make_app(settings))
    ids = [new_job_id() for _ in range(9)]
    keys = [image_key(job_id, "belt", "jpeg") for job_id in ids]
    single = QUEUES["single"]
    jobs.client.lpush(single, *(envelope.message([key], "single") for key in keys))
    leases = Leases()
    seen: list[Any] = []
    with kombu.Connection(settings.redis_url.get_secret_value(), transport=TRANSPORT) as connection:
        consumer = kombu.Consumer(connection, [kombu.Queue(single)], accept=["json"], on_message=seen.append)
        consumer.consume()
        leases.attach(consumer.channel)
        with lose_answer(lost) as answers, contextlib.suppress(*connection.connection_errors):
            connection.drain_events(timeout=5)
        assert answers
        assert len(seen) < jobs.client.hlen("unacked")
        consumer.channel.close()
    messages = _waiting(jobs, "single")
    assert [job_id_of(keys_in(message)[0]) for message in messages] == ids
    assert not any(message["headers"].get("redelivered") for message in messages)


def test_what_was_returned_by_another_is_not_returned_again(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """A lease that ran out while the connection was broken is another worker's by now."""
    Leases().attach(channel)
    tag = next(iter(channel.qos._delivered))
    channel.qos.restore_by_tag(tag)
    channel.close()
    assert sorted(job_id_of(keys_in(message)[0]) for message in _waiting(jobs)) == sorted([ids[0], *ids[2:]])


def test_messages_whose_batch_crashed_are_returned_as_such(
    jobs: JobStore, ids: list[str], channel: Any
) -> None:
    """The next worker with one of them runs its jobs alone; the others run in batches."""
    leases = Leases()
    leases.attach(channel)
    leases.mark_crashed(next(iter(channel.qos._delivered)))
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
