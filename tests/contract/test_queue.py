"""What we use of Celery and kombu beside their documented interfaces: an upgrade that moves it fails here."""

from __future__ import annotations

import json
from typing import Any

import pytest
from celery.worker.request import Request
from kombu.transport import virtual
from kombu.transport.redis import Channel
from kombu.transport.redis import QoS as RedisQoS

from core.jobs import new_job_id, object_key
from core.ledger import JobStore
from core.queue import CLASSIFY, QUEUES, SHARD, Envelope, keys_in, make_app
from core.settings import Settings


def _keys(count: int) -> list[str]:
    return [object_key(new_job_id(), "belt", "jpeg") for _ in range(count)]


def _shape(value: Any) -> Any:
    return {key: _shape(part) for key, part in value.items()} if isinstance(value, dict) else type(value)


def test_our_message_has_the_shape_that_celery_sends(settings: Settings, jobs: JobStore) -> None:
    """Field by field, the enveloped message is what `send_task` puts into Redis."""
    app = make_app(settings)
    keys = _keys(1)
    app.send_task(CLASSIFY, args=[keys], queue="sent")
    (sent,) = jobs.client.lrange("sent", 0, -1)
    ours = json.loads(Envelope(app).message(keys, "single"))
    theirs = json.loads(sent)
    assert _shape(ours) == _shape(theirs)
    assert ours["body"] == theirs["body"]
    assert ours["properties"]["delivery_info"]["routing_key"] == QUEUES["single"]


def test_kombu_delivers_our_message(settings: Settings, jobs: JobStore) -> None:
    """A plain kombu consumer reads task, id and arguments from it."""
    app = make_app(settings)
    keys = _keys(3)
    jobs.client.lpush(QUEUES["bulk"], Envelope(app).message(keys, "bulk"))
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUES["bulk"]).get(timeout=5)
        assert message.headers["task"] == CLASSIFY
        assert message.headers["id"] in keys[0]
        assert message.payload[0] == [keys]
        assert not message.headers.get("redelivered")
        message.ack()


def test_messages_name_their_keys_and_shard_bulk_uploads(settings: Settings) -> None:
    """Forty images become three messages that together name each once."""
    keys = _keys(40)
    messages = Envelope(make_app(settings)).messages(keys, "bulk")
    assert [len(keys_in(json.loads(message))) for message in messages] == [SHARD, SHARD, 40 - 2 * SHARD]
    assert [key for message in messages for key in keys_in(json.loads(message))] == keys


def test_each_message_has_a_delivery_tag_of_its_own(settings: Settings) -> None:
    """Kombu keeps unacknowledged messages by their tags."""
    envelope, keys = Envelope(make_app(settings)), _keys(1)
    tags = {json.loads(envelope.message(keys, "single"))["properties"]["delivery_tag"] for _ in range(50)}
    assert len(tags) == 50


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        (
            RedisQoS,
            [
                "append",
                "ack",
                "pipe_or_acquire",
                "restore_by_tag",
                "restore_visible",
                "unacked_key",
                "unacked_index_key",
            ],
        ),
        (
            Channel,
            ["unacked_restore_interval", "unacked_restore_throttle", "priority_steps", "_do_restore_message"],
        ),
        (virtual.QoS, ["ack", "can_consume"]),
        (Request, ["on_accepted", "on_success", "revoked", "send_event", "acknowledge"]),
    ],
)
def test_what_we_call_is_still_there(owner: type, names: list[str]) -> None:
    """worker.delivery, worker.recovery and worker.batching stand on these."""
    assert [name for name in names if not hasattr(owner, name)] == []


def test_an_unacknowledged_message_is_kept_where_we_look(settings: Settings, jobs: JobStore) -> None:
    """`unacked` holds [message, exchange, routing key]; `unacked_index` holds when it was taken."""
    app = make_app(settings)
    keys = _keys(2)
    jobs.client.lpush(QUEUES["single"], Envelope(app).message(keys, "single"))
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUES["single"]).get(timeout=5)
        qos = message.channel.qos
        assert message.delivery_tag in qos._delivered
        assert message.delivery_tag not in qos._dirty
        (held,) = jobs.client.hvals("unacked")
        assert keys_in(json.loads(held)[0]) == keys
        assert jobs.client.zscore("unacked_index", message.delivery_tag) is not None
        message.ack()
    assert jobs.client.hlen("unacked") == 0
