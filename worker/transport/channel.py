"""kombu's Redis transport, which takes many messages at once and goes on when Redis has no memory left."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from typing import Any, Final

from kombu.transport import redis as kombu_redis
from kombu.transport import virtual

from core.cost import MAX_TOGETHER_MS
from core.lanes import SINGLE
from core.messages import QUEUES
from core.redis.oom import OomTolerantRedis
from core.redis.scripts import load_script

TRANSPORT: Final = "worker.transport.channel:Transport"
"""Name of the transport, for Celery's `broker_transport`."""

MAX_TAKEN: Final = 15
"""Single images whose messages are taken after one that was waited for: about as many as a bulk message has,
whose queue has the next turn."""

_PAUSED_SECONDS: Final = 0.1
"""How long a channel waits for messages of some queues only; then it looks which ones are paused."""

_QUEUE: Final = QUEUES[SINGLE]
_TAKE: Final = load_script("take")


class QoS(kombu_redis.QoS):
    """kombu's record of unacknowledged messages; those that were taken at once are recorded already."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self.waiting = 0  # single images' messages in the queue when the latest was recorded
        self.taking: float | None = None  # the time by which messages are marked whose taking is not answered
        self._taken: set[str] = set()  # delivery tags

    def append(self, message: Any, delivery_tag: str) -> None:
        """Record a message that is being delivered."""
        # First in our books, so that it is returned should Redis record it and its answer be lost.
        virtual.QoS.append(self, message, delivery_tag)  # type: ignore[no-untyped-call]
        if delivery_tag in self._taken:
            self._taken.remove(delivery_tag)
        else:
            self._record(message, delivery_tag)

    def take(self, most: int) -> list[dict[str, Any]]:
        """Take and record messages that name up to `most` single images in one step, and return them."""
        self.taking = time.time()
        with self.channel.conn_or_acquire() as client:
            keys = [_QUEUE, self.unacked_key, self.unacked_index_key]
            texts = client.register_script(_TAKE)(keys, [most, self.taking, MAX_TOGETHER_MS])
        self.taking = None
        messages: list[dict[str, Any]] = [json.loads(text) for text in texts]
        self._taken.update(message["properties"]["delivery_tag"] for message in messages)
        return messages

    def _record(self, message: Any, delivery_tag: str) -> None:
        """Do as kombu does, and see in the same round trip whether more wait."""
        info = message.delivery_info
        held = json.dumps([message._raw, info["exchange"], info["routing_key"]])  # noqa: SLF001 - as kombu's
        with self.pipe_or_acquire() as pipe:
            pipe.zadd(self.unacked_index_key, {delivery_tag: time.time()})
            pipe.hset(self.unacked_key, delivery_tag, held)
            pipe.llen(_QUEUE)
            *_, self.waiting = pipe.execute()


class Channel(kombu_redis.Channel):
    """kombu's, with three differences.

    What a worker must write to take, keep, return and acknowledge messages is not refused for want of memory.
    And while single images wait, their messages are taken by the dozen: kombu takes two round trips for each,
    and a worker killed between the two loses the message. And it can be told to leave a queue alone.
    """

    QoS = QoS

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)  # type: ignore[no-untyped-call]
        self._paused: frozenset[str] = frozenset()

    def pause(self, queues: Iterable[str]) -> None:
        """Take messages from all queues but these, until the next call."""
        self._paused = frozenset(queues)

    def _get_client(self) -> Any:
        super()._get_client()  # type: ignore[no-untyped-call]  # It checks redis-py's version.
        return OomTolerantRedis

    def _brpop_start(self, timeout: float | None = None) -> None:
        if not self._paused:
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]
            return
        cycle = self._queue_cycle
        queues = list(cycle.items)
        cycle.update(queue for queue in queues if queue not in self._paused)
        try:
            super()._brpop_start(_PAUSED_SECONDS)  # type: ignore[no-untyped-call]
        finally:
            cycle.update(queues)

    def _brpop_read(self, **options: Any) -> Any:
        self.qos.waiting = 0
        found = super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        self._take_more()
        return found

    def _take_more(self) -> None:
        room = self.qos.can_consume_max_estimate()
        most = MAX_TAKEN if room is None else min(MAX_TAKEN, room)
        if not self.qos.waiting or most < 1 or _QUEUE not in self.active_queues or _QUEUE in self._paused:
            return
        for message in self.qos.take(most):
            self.connection._deliver(message, _QUEUE)  # noqa: SLF001 - as kombu's own _brpop_read does


class Transport(kombu_redis.Transport):
    """kombu's, with our channel."""

    Channel = Channel
