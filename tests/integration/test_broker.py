"""worker.transport.channel on a real Redis: messages taken one by one and at once."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import pytest
from kombu.connection import Connection

from core.cost import MAX_TOGETHER_MS
from core.ids import new_job_id
from core.messages import QUEUES, Envelope, keys_in, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import image_key, job_id_of
from worker.transport.channel import MAX_TAKEN, TRANSPORT

_QUEUE = QUEUES["single"]

kombu: Any = import_module("kombu")  # It has no types.


@pytest.fixture
def connection(settings: Settings) -> Iterator[Connection]:
    """A connection as the workers have it."""
    with kombu.Connection(settings.redis_url.get_secret_value(), transport=TRANSPORT) as connection:
        yield connection


def _send(
    settings: Settings, jobs: JobStore, count: int, images: int = 1, costs_ms: Sequence[int] = ()
) -> list[str]:
    """Put messages into the queue; return their first jobs' ids in the order in which they are served."""
    envelope = Envelope(make_app(settings))
    keys = [[image_key(new_job_id(), "belt", "jpeg") for _ in range(images)] for _ in range(count)]
    jobs.client.lpush(
        _QUEUE, *(envelope.message(shard_keys, "single", costs_ms=costs_ms) for shard_keys in keys)
    )
    return [job_id_of(shard_keys[0]) for shard_keys in keys]


def _receive_all(connection: Connection, *, prefetch: int = 0) -> list[Any]:
    """Return the messages that one answer of Redis brings."""
    messages: list[Any] = []
    consumer = kombu.Consumer(connection, [kombu.Queue(_QUEUE)], accept=["json"], on_message=messages.append)
    consumer.qos(prefetch_count=prefetch)
    consumer.consume()
    connection.drain_events(timeout=5)  # type: ignore[no-untyped-call]
    return messages


def _ids(messages: list[Any]) -> list[str]:
    return [job_id_of(message.payload[0][0][0]) for message in messages]


def _held(jobs: JobStore) -> set[str]:
    return {job_id_of(keys_in(json.loads(held)[0])[0]) for held in jobs.client.hvals("unacked")}


def test_a_backlog_is_taken_at_once_and_in_order(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """One that was waited for and a dozen more; each is recorded and acknowledged as any other."""
    ids = _send(settings, jobs, 100)
    messages = _receive_all(connection)
    assert _ids(messages) == ids[: 1 + MAX_TAKEN]
    assert _held(jobs) == set(ids[: 1 + MAX_TAKEN])
    assert jobs.client.zcard("unacked_index") == 1 + MAX_TAKEN
    for message in messages:
        message.ack()
    assert jobs.client.hlen("unacked") == jobs.client.zcard("unacked_index") == 0
    assert jobs.client.llen(_QUEUE) == 100 - 1 - MAX_TAKEN


def test_others_are_left_half_of_what_waits(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """Of seven, one is waited for and three are taken with it."""
    ids = _send(settings, jobs, 7)
    assert _ids(_receive_all(connection)) == ids[:4]


def test_no_more_are_taken_than_may_be_held(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """The prefetch limit bounds both kinds together."""
    ids = _send(settings, jobs, 50)
    assert _ids(_receive_all(connection, prefetch=5)) == ids[:5]


@pytest.mark.parametrize(("images", "taken"), [(16, 1), (8, 2), (5, 4)])
def test_images_are_counted_not_messages(
    settings: Settings, jobs: JobStore, connection: Connection, images: int, taken: int
) -> None:
    """Single images that were uploaded together are named by one message."""
    ids = _send(settings, jobs, 50, images)
    assert _ids(_receive_all(connection)) == ids[:taken]


def test_no_more_work_is_taken_at_once_than_a_batch_may_hold(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """Beside the one that was waited for."""
    ids = _send(settings, jobs, 50, costs_ms=[MAX_TOGETHER_MS // 3])
    assert _ids(_receive_all(connection)) == ids[: 1 + 3]


def test_a_paused_queue_is_left_alone(settings: Settings, jobs: JobStore, connection: Connection) -> None:
    """Until the channel is told otherwise; the other queues are served meanwhile."""
    bulk, seen = QUEUES["bulk"], list[Any]()
    message = Envelope(make_app(settings)).message([image_key(new_job_id(), "belt", "jpeg")], "bulk")
    jobs.client.lpush(bulk, message)
    ids = _send(settings, jobs, 2)
    queues = [kombu.Queue(bulk), kombu.Queue(_QUEUE)]
    consumer = kombu.Consumer(connection, queues, accept=["json"], on_message=seen.append)
    consumer.consume()
    consumer.channel.pause([bulk], 0.1)
    while len(seen) < len(ids):
        connection.drain_events(timeout=5)  # type: ignore[no-untyped-call]
    assert _ids(seen) == ids
    with pytest.raises(TimeoutError):
        connection.drain_events(timeout=0.3)  # type: ignore[no-untyped-call]
    consumer.channel.pause([])
    connection.drain_events(timeout=5)  # type: ignore[no-untyped-call]
    assert len(seen) == len(ids) + 1


def test_a_message_that_does_not_say_how_many_images_counts_as_one(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """It was sent by an older API."""
    ids = _send(settings, jobs, 7)
    for number, text in enumerate(jobs.client.lrange(_QUEUE, 0, -1)):
        message = json.loads(text)
        del message["headers"]["images"]
        jobs.client.lset(_QUEUE, number, json.dumps(message))
    assert _ids(_receive_all(connection)) == ids[:4]


def test_what_was_taken_and_not_acknowledged_is_delivered_again(
    settings: Settings, jobs: JobStore, connection: Connection
) -> None:
    """Kombu returns each as it would one that it took itself: in `[message, exchange, queue]`."""
    ids = _send(settings, jobs, 9)
    messages = _receive_all(connection)
    assert len(messages) == 5
    for message in reversed(messages):
        message.channel.qos.restore_by_tag(message.delivery_tag)
    waiting = [json.loads(text) for text in reversed(jobs.client.lrange(_QUEUE, 0, -1))]
    assert [job_id_of(keys_in(message)[0]) for message in waiting] == ids
    assert jobs.client.hlen("unacked") == 0


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", '{"properties": {"delivery_tag": 1}}'])
def test_what_is_no_message_stays_for_kombu(
    settings: Settings, jobs: JobStore, connection: Connection, text: str
) -> None:
    """Nothing behind it is taken in the same step, and nothing is lost."""
    ids = _send(settings, jobs, 2)
    jobs.client.lpush(_QUEUE, text)
    jobs.client.lpush(_QUEUE, *jobs.client.lrange(_QUEUE, -1, -1) * 6)
    assert _ids(_receive_all(connection)) == ids
    assert jobs.client.lindex(_QUEUE, -1) == text
