"""Undocumented interfaces of Celery and kombu that we use: an upgrade that moves one fails here."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Task, signals
from celery.app.amqp import AMQP
from celery.app.defaults import NAMESPACES, flatten
from celery.concurrency.asynpool import AsynPool
from celery.worker import state
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from flask.testing import FlaskClient
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.transport import virtual
from kombu.transport.redis import Channel, Transport
from kombu.transport.redis import QoS as RedisQoS
from pydantic import SecretStr

from core.ids import new_job_id
from core.messages import ADDRESS, CLASSIFY, QUEUES, VISIBILITY_TIMEOUT, Envelope, keys_in, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import image_key
from tests.support.servers import Server, wait_until
from tests.support.stream import upload
from worker.transport.channel import TRANSPORT
from worker.transport.connection import PromptConnection
from worker.transport.delivery import ack_all
from worker.watchdog import LoopWatchdog


def _keys(count: int) -> list[str]:
    return [image_key(new_job_id(), "belt", "jpeg") for _ in range(count)]


def _shape(value: Any) -> Any:
    return {key: _shape(part) for key, part in value.items()} if isinstance(value, dict) else type(value)


def test_our_message_has_the_shape_that_celery_sends(settings: Settings, jobs: JobStore) -> None:
    """Field by field, the enveloped message equals the message of `send_task`."""
    app = make_app(settings)
    keys = _keys(1)
    app.send_task(CLASSIFY, args=[keys], queue="sent")
    (sent,) = jobs.client.lrange("sent", 0, -1)
    ours = json.loads(Envelope(app).message(keys, "single"))
    theirs = json.loads(sent)
    assert ours["headers"].pop("images") == 1  # ours alone, for `take.lua`
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
            [
                "unacked_restore_interval",
                "unacked_restore_throttle",
                "unacked_restore_limit",
                "unacked_mutex_expire",
                "visibility_timeout",
                "health_check_interval",
                "priority_steps",
                "_lookup",
                "_brpop_read",
                "_get_client",
                "active_queues",
                "conn_or_acquire",
                "qos",
            ],
        ),
        (Transport, ["_deliver"]),
        (virtual.QoS, ["ack", "append", "can_consume", "can_consume_max_estimate"]),
        (Request, ["on_accepted", "on_success", "revoked", "send_event", "acknowledge"]),
        (Consumer, ["ensure_connected", "create_task_handler", "update_strategies"]),
        (AsynPool, ["maintain_pool", "apply_async"]),
        (AMQP, ["Connection"]),
        (
            state,
            [
                "task_reserved",
                "task_ready",
                "active_requests",
                "reserved_requests",
                "revoked",
                "should_stop",
                "should_terminate",
            ],
        ),
        (
            signals,
            [
                "setup_logging",
                "worker_init",
                "worker_process_init",
                "worker_ready",
                "worker_shutting_down",
                "worker_shutdown",
                "task_received",
            ],
        ),
    ],
)
def test_what_we_call_is_still_there(owner: object, names: list[str]) -> None:
    """worker.transport.channel, .delivery, .recovery, .leases, .app and .batching stand on these."""
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


def test_the_broker_takes_our_options(settings: Settings) -> None:
    """Each option is one that our channel or its connection reads: a renamed one would do nothing."""
    app = make_app(settings)
    app.conf.broker_transport = TRANSPORT
    with app.connection_for_read() as connection:
        channel = connection.default_channel
        options = {**app.conf.broker_transport_options}
        assert options.pop(ADDRESS) == settings.redis
        on_channel = {name: getattr(channel, name) for name in options if hasattr(channel, name)}
        assert on_channel == {name: options[name] for name in on_channel}
        to_redis = channel.pool.connection_kwargs
        assert options.keys() - on_channel.keys() - to_redis.keys() == set()
        assert {"visibility_timeout", "unacked_restore_limit", "unacked_mutex_expire"} <= on_channel.keys()
        assert to_redis["socket_timeout"] == options["socket_timeout"]
        assert channel.qos.visibility_timeout == VISIBILITY_TIMEOUT


def test_celery_knows_our_settings(settings: Settings) -> None:
    """Each key of the app's configuration is one that Celery reads; a renamed one would do nothing."""
    known = {name for name, _ in flatten(NAMESPACES)}
    ours = set(make_app(settings).conf.changes) - {"deprecated_settings"}  # Celery's own note
    assert ours - known == set()
    assert "worker_lost_wait" in ours


def test_the_watchdog_gets_beats_while_the_broker_is_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kombu calls back between attempts; without that a long outage would end the worker."""
    app = make_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    app.amqp.Connection = PromptConnection
    watchdog = LoopWatchdog(lambda: None)
    monkeypatch.setattr(PromptConnection, "on_pause", watchdog.beat)
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda *_: None, max_retries=3)
    assert watchdog._beats >= 3


def test_a_message_has_the_parts_that_we_set_and_read(settings: Settings, jobs: JobStore) -> None:
    """The channel stores `_raw`; `transport.delivery` sets `_state`, which makes `acknowledged` true."""
    app = make_app(settings)
    text = Envelope(app).message(_keys(1), "single")
    jobs.client.lpush(QUEUES["single"], text)
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUES["single"]).get(timeout=5)
        raw = {**message._raw, "properties": {**message._raw["properties"]}}
        raw["properties"]["delivery_info"] = json.loads(text)["properties"]["delivery_info"]
        assert raw == json.loads(text)
        assert not message.acknowledged
        ack_all([message])
        assert message.acknowledged
        ack_all([message])  # as often as one likes
    assert jobs.client.hlen("unacked") == 0


def test_a_running_worker_has_what_we_ask_it_for(
    client: FlaskClient, start_worker: Callable[..., Server], tmp_path: Path
) -> None:
    """worker.batching and .app read these of the consumer and its pool; a real worker says what they are."""
    told = tmp_path / "told.json"
    start_worker(module="tests.support.telling_worker", TOLD=str(told))
    wait_until(told.exists, "the worker to tell")
    report = json.loads(told.read_text())
    assert report["initial_prefetch_count"] == 2 * Settings().max_batch
    assert report["num_processes"] == len(report["processes"]) == 1
    assert report["qos_value"] == report["initial_prefetch_count"]
    assert report["channel"] is True  # leases are those of the channel that messages come from
    assert report["timer"] == []  # call_repeatedly and call_after, if they were missing
    assert upload(client)


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_signatures_that_we_override_or_call_are_as_before() -> None:
    """Positions and names that our own methods repeat."""
    assert _parameters(RedisQoS.restore_unacked) == ["self", "client"]
    assert _parameters(RedisQoS.append) == ["self", "message", "delivery_tag"]
    assert _parameters(Channel._brpop_read) == ["self", "options"]
    assert _parameters(Transport._deliver) == ["self", "message", "queue"]
    assert _parameters(RedisQoS.restore_by_tag)[:2] == ["self", "tag"]
    assert {"interval_start", "interval_step", "interval_max"} <= set(
        _parameters(Connection._ensure_connection)
    )
    assert {"accept_callback", "callback", "error_callback", "correlation_id"} <= set(
        _parameters(AsynPool.apply_async)
    )
    assert _parameters(Request.on_accepted) == ["self", "pid", "time_accepted"]
    assert _parameters(Task.start_strategy) == ["self", "app", "consumer", "kwargs"]


def test_a_closed_channel_returns_its_messages_by_the_function_that_we_replace(
    settings: Settings, jobs: JobStore
) -> None:
    """Ours replaces `restore_unacked`, which kombu calls when a channel closes."""
    app = make_app(settings)
    jobs.client.lpush(QUEUES["single"], Envelope(app).message(_keys(1), "single"))
    called = []
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUES["single"]).get(timeout=5)
        message.channel.qos.restore_unacked = lambda client=None: called.append(client)
        message.channel.close()
    assert len(called) == 1


def test_returned_messages_are_marked_and_served_next(settings: Settings, jobs: JobStore) -> None:
    """A message that kombu restores is marked `redelivered`, so its jobs run alone, and is served next."""
    app = make_app(settings)
    first, second = _keys(1), _keys(1)
    for keys in (first, second):
        jobs.client.lpush(QUEUES["single"], Envelope(app).message(keys, "single"))
    with app.connection_for_read() as connection:
        message = connection.SimpleQueue(QUEUES["single"]).get(timeout=5)
        message.channel.qos.restore_by_tag(message.delivery_tag)
        message.channel.qos._delivered.clear()
    served = json.loads(jobs.client.lrange(QUEUES["single"], -1, -1)[0])
    assert keys_in(served) == first
    assert served["headers"]["redelivered"] is True


def test_the_worker_connects_by_a_class_of_ours(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The app makes its connections by `amqp.Connection`; ours pauses two seconds at most."""
    app = make_app(settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))
    app.amqp.Connection = PromptConnection
    pauses: list[float] = []
    monkeypatch.setattr("kombu.utils.functional.sleep", lambda _: None)
    with app.connection_for_read() as connection, pytest.raises(OperationalError):
        connection.ensure_connection(lambda _, pause: pauses.append(pause), max_retries=6)
    assert pauses == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]


def test_our_channel_records_a_message_as_kombu_does(settings: Settings, jobs: JobStore) -> None:
    """Waited for or taken with others: `unacked` then holds the same for every reader."""
    app = make_app(settings)
    held = {}
    for transport in ("redis", TRANSPORT):
        jobs.client.lpush(QUEUES["single"], Envelope(app).message(_keys(1), "single"))
        with Connection(settings.redis_url.get_secret_value(), transport=transport) as connection:  # type: ignore[no-untyped-call]
            connection.SimpleQueue(QUEUES["single"], serializer="json", accept=["json"]).get(timeout=5)
            (text,) = jobs.client.hvals("unacked")
            message, *place = json.loads(text)
            held[transport] = (_shape(message), place)
        jobs.client.flushall()
    assert held["redis"] == held[TRANSPORT]
