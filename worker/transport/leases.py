"""Leases: this worker's claim on its unacknowledged messages."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any, Final

from celery.utils.log import get_logger
from kombu.exceptions import OperationalError
from kombu.utils.encoding import bytes_to_str
from redis.exceptions import RedisError

from core.redis.scripts import load_script

logger = get_logger(__name__)

_GIVE_BACK: Final = load_script("give_back")

RENEW_SECONDS: Final = 2.0
"""Seconds between renewals: several within `core.messages.VISIBILITY_TIMEOUT`."""


class Leases:
    """Renews leases while the worker lives, and returns the messages of a broken connection on the next one.

    Otherwise these messages would wait for their leases to expire when Redis restarts.
    """

    def __init__(self) -> None:
        self._channel: Any = None
        self._to_return: list[str] = []  # delivery tags, oldest first
        self._unknown_at: list[float] = []  # scores of messages whose tags are unknown: the reply was lost
        self._crashed: set[str] = set()  # delivery tags of messages whose batch crashed

    def attach(self, channel: Any) -> None:
        """Attach to a channel, to return its messages in order when it closes, or later if it is broken."""
        if channel is self._channel:
            return
        self._channel = channel
        # kombu's own method reverses the order and, on a broken connection, raises an AttributeError, which
        # ends the worker (5.7; tests/chaos kills Redis to check that ours does not).
        channel.qos.restore_unacked = partial(self._restore, channel.qos)

    def mark_crashed(self, delivery_tag: str) -> None:
        """Record that a batch with jobs of this message crashed, so that the next worker isolates them."""
        self._crashed.add(delivery_tag)

    def renew(self, channel: Any) -> None:
        """Renew the leases of the channel's messages; return messages of earlier channels.

        Raises the broker's connection errors.
        """
        self.attach(channel)
        qos = channel.qos
        self._return(qos)
        self._extend(qos)

    def renew_until_exit(self) -> None:
        """Renew leases in a thread while the worker's last batch runs and its event loop has stopped."""
        while True:
            time.sleep(RENEW_SECONDS)
            try:
                if self._channel is not None:
                    self._extend(self._channel.qos)
            except (RedisError, OperationalError, OSError, AttributeError, RuntimeError) as error:
                # The connection is being closed, or a message was just acknowledged; try again next time.
                logger.debug("Leases not renewed while stopping: %r", error)

    def _extend(self, qos: Any) -> None:
        tags = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001 - pinned by tests/contract
        if not tags:
            return
        with qos.pipe_or_acquire() as pipe:
            # XX: a message that was just acknowledged must not come back.
            pipe.zadd(qos.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            pipe.execute()

    def _restore(self, qos: Any, client: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        self._to_return += qos._delivered  # noqa: SLF001 - as above
        if qos.taking is not None:
            self._unknown_at.append(qos.taking)
        qos._delivered.clear()  # noqa: SLF001 - as kombu does
        try:
            self._return(qos)
        except (*qos.channel.connection_errors, AttributeError) as error:
            logger.info("%d messages will be returned when Redis is back (%r)", len(self._to_return), error)

    def _return(self, qos: Any) -> None:
        """Return messages to the end of the queue that is served next, the youngest first: the oldest leads.

        Unlike kombu this takes two round trips for any number of messages, and marks as redelivered only
        those whose batch crashed: the worker lives, so the others need not be isolated.
        """
        if not self._to_return and not self._unknown_at:
            return
        with qos.channel.conn_or_acquire() as client:
            while self._unknown_at:
                score = self._unknown_at[-1]
                tags = client.zrange(qos.unacked_index_key, score, score, byscore=True)
                self._to_return += map(bytes_to_str, tags)
                self._unknown_at.pop()
            tags = self._to_return[::-1]
            arguments: list[Any] = []
            for tag, record in zip(tags, client.hmget(qos.unacked_key, tags), strict=True):
                if record is not None:
                    message, exchange, key = json.loads(record)
                    if tag in self._crashed:
                        message["headers"]["redelivered"] = True
                    for queue in qos.channel._lookup(exchange, key):  # noqa: SLF001 - as kombu does
                        arguments += [tag, queue, json.dumps(message)]
            if arguments:
                client.register_script(_GIVE_BACK)([qos.unacked_key, qos.unacked_index_key], arguments)
        self._crashed.difference_update(self._to_return)
        self._to_return.clear()
