"""kombu's Redis transport, extended: takes many messages at once, works while Redis is out of memory."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, Final, cast

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from redis.connection import AbstractConnection, ConnectionPool

from core.cost import MAX_TOGETHER_MS
from core.lanes import SINGLE
from core.messages import ADDRESS, QUEUES
from core.redis.client import connection_pool
from core.redis.oom import OomTolerantRedis
from core.redis.scripts import load_script

TRANSPORT: Final = "worker.transport.channel:Transport"
"""Name for Celery's `broker_transport`."""

MAX_TAKEN: Final = 15
"""Single images to take after the first: about as many as a message of the bulk queue, which is next."""

RECHECK_SECONDS: Final = 0.1
"""Seconds for which a channel waits for messages while a queue is paused that it may need again soon."""

_QUEUE: Final = QUEUES[SINGLE]
_TAKE: Final = load_script("take")


class QoS(kombu_redis.QoS):
    """kombu's record of unacknowledged messages. Messages of `take` are recorded already."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self.waiting = 0  # length of the queue of single images when the latest message was recorded
        self.taking: float | None = None  # score of the messages of a `take` without a reply yet
        self._taken: set[str] = set()  # delivery tags

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a message that is being delivered."""
        # First here, so that the message is returned if Redis records it but its reply is lost.
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]
        if delivery_tag in self._taken:
            self._taken.remove(delivery_tag)
        else:
            self._record(message, delivery_tag)

    def take(self, max_images: int) -> list[dict[str, Any]]:
        """Take and record messages of up to `max_images` single images in one step, and return them."""
        self.taking = time.time()
        with self.channel.conn_or_acquire() as client:
            keys = [_QUEUE, self.unacked_key, self.unacked_index_key]
            texts = client.register_script(_TAKE)(keys, [max_images, self.taking, MAX_TOGETHER_MS])
        self.taking = None
        messages: list[dict[str, Any]] = [json.loads(text) for text in texts]
        self._taken.update(message["properties"]["delivery_tag"] for message in messages)
        return messages

    def _record(self, message: Any, delivery_tag: str) -> None:
        """Record a message as kombu does, and get the queue's length in the same round trip."""
        info = message.delivery_info
        record = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as kombu's
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time.time()})
            pipe.hset(self.unacked_key, delivery_tag, record)
            pipe.llen(_QUEUE)
            *_, self.waiting = pipe.execute()


class Channel(kombu_redis.Channel):
    """kombu's channel, with four differences.

    Commands that take, record, return and acknowledge messages work while Redis is out of memory. While
    single images wait, their messages are taken by the dozen: kombu needs two round trips for each, and a
    worker that is killed between the two loses the message. Queues can be paused. And it connects as all
    programs do: kombu's URLs cannot say all that ours can.
    """

    QoS = QoS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._paused: frozenset[str] = frozenset()
        self._seconds: float | None = None

    def pause(self, queues: Iterable[str], seconds: float | None = None) -> None:
        """Take no messages from these queues until the next call.

        Args:
            queues: their names.
            seconds: for how long one wait for the other queues may last; kombu's default if None.
        """
        self._paused = frozenset(queues)
        self._seconds = seconds

    def _get_client(self) -> Any:
        super()._get_client()  # type: ignore[no-untyped-call]  # It checks redis-py's version.
        return OomTolerantRedis

    def _get_pool(self, asynchronous: bool = False) -> ConnectionPool:  # noqa: FBT001, FBT002 - kombu's signature
        address = self.connection.client.transport_options.get(ADDRESS)
        if address is None:  # a connection by a URL alone, as of kombu's own tools
            return cast("ConnectionPool", super()._get_pool(asynchronous))  # type: ignore[no-untyped-call]
        pool = connection_pool(
            address,
            wrap=self._watched if asynchronous else None,
            max_connections=self.max_connections,
            socket_timeout=self.socket_timeout,
            socket_connect_timeout=self.socket_connect_timeout,
            socket_keepalive=self.socket_keepalive,
            health_check_interval=self.health_check_interval,
        )
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=pool.connection_kwargs.get("db", 0))
        return pool

    def _watched(self, kind: type[AbstractConnection]) -> type[AbstractConnection]:
        """Return a class of connections that tell the poller when they end, as kombu's do."""
        channel = self

        class Watched(kind):  # type: ignore[misc, valid-type]
            def disconnect(self, *arguments: Any, **options: Any) -> None:
                super().disconnect(*arguments, **options)
                if channel._registered:
                    channel._on_connection_disconnect(self)  # type: ignore[no-untyped-call]

        return Watched

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._paused:
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]
            return
        cycle = self._queue_cycle
        queues = list(cycle.items)
        cycle.update(queue for queue in queues if queue not in self._paused)
        try:
            super()._brpop_start(self._seconds)  # type: ignore[no-untyped-call]
        finally:
            cycle.update(queues)

    def _brpop_read(self, **options: Any) -> Any:
        self.qos.waiting = 0
        delivered = super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        self._take_more()
        return delivered

    def _take_more(self) -> None:
        free = self.qos.can_consume_max_estimate()
        max_images = MAX_TAKEN if free is None else min(MAX_TAKEN, free)
        if (
            not self.qos.waiting
            or max_images < 1
            or _QUEUE not in self.active_queues
            or _QUEUE in self._paused
        ):
            return
        for message in self.qos.take(max_images):
            self.connection._deliver(message, _QUEUE)  # noqa: SLF001 - as kombu's own _brpop_read does


class Transport(kombu_redis.Transport):
    """kombu's transport, with our channel."""

    Channel = Channel
