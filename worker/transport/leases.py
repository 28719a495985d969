"""This worker's hold on the messages that it has not acknowledged."""

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
"""How often leases are renewed: several times within `core.messages.VISIBILITY_TIMEOUT`."""


class Leases:
    """Renews leases while the worker lives, and ends those of a broken connection once there is a new one.

    Without the latter, messages held when Redis restarts would wait for their leases to run out.
    """

    def __init__(self) -> None:
        self._watched: Any = None
        self._left: list[str] = []  # delivery tags, oldest first
        self._taken_at: list[float] = []  # when messages were taken without an answer that tells their tags
        self._suspect: set[str] = set()  # delivery tags of messages whose batch crashed

    def watch(self, channel: Any) -> None:
        """Return the channel's messages in order when it closes, or keep their tags if it is broken."""
        if channel is self._watched:
            return
        self._watched = channel
        # kombu's own fails with an AttributeError when the connection is broken, which ends the worker
        # (5.7; tests/chaos kills Redis to see that it does not), and turns their order round.
        channel.qos.restore_unacked = partial(self._restore, channel.qos)

    def suspect(self, delivery_tag: str) -> None:
        """Remember that a batch with jobs of this message crashed: whoever gets it next runs them alone."""
        self._suspect.add(delivery_tag)

    def renew(self, channel: Any) -> None:
        """Move the time at which the channel's messages count as abandoned; return those left behind.

        Raises the broker's connection errors.
        """
        self.watch(channel)
        qos = channel.qos
        self._return(qos)
        self._extend(qos)

    def keep(self) -> None:
        """Renew from a thread of its own while the worker finishes its last batch and its event loop rests.

        Ends with the process.
        """
        while True:
            time.sleep(RENEW_SECONDS)
            try:
                if self._watched is not None:
                    self._extend(self._watched.qos)
            except (RedisError, OperationalError, OSError, AttributeError, RuntimeError) as error:
                # The connection is being closed, or a message was acknowledged meanwhile: the next time then.
                logger.debug("Leases not renewed while stopping: %r", error)

    def _extend(self, qos: Any) -> None:
        tags = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001 - pinned by tests/contract
        if not tags:
            return
        with qos.pipe_or_acquire() as pipe:
            # XX: a message acknowledged meanwhile must not come back.
            pipe.zadd(qos.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            pipe.execute()

    def _restore(self, qos: Any, client: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        self._left += qos._delivered  # noqa: SLF001 - as above
        if qos.taking is not None:
            self._taken_at.append(qos.taking)
        qos._delivered.clear()  # noqa: SLF001 - as kombu does
        try:
            self._return(qos)
        except (*qos.channel.connection_errors, AttributeError) as error:
            logger.info("%d messages are returned once Redis is back (%r)", len(self._left), error)

    def _return(self, qos: Any) -> None:
        """Return messages to the end of the queue served next: the youngest first, so the oldest leads.

        Unlike kombu, in two round trips however many they are, and without marking them as delivered before:
        who returns them lives, so they need not run alone, but for those whose batch crashed the child.
        """
        if not self._left and not self._taken_at:
            return
        with qos.channel.conn_or_acquire() as client:
            while self._taken_at:
                moment = self._taken_at[-1]
                tags = client.zrange(qos.unacked_index_key, moment, moment, byscore=True)
                self._left += map(bytes_to_str, tags)
                self._taken_at.pop()
            tags = self._left[::-1]
            arguments: list[Any] = []
            for tag, held in zip(tags, client.hmget(qos.unacked_key, tags), strict=True):
                if held is not None:
                    message, exchange, key = json.loads(held)
                    if tag in self._suspect:
                        message["headers"]["redelivered"] = True
                    for queue in qos.channel._lookup(exchange, key):  # noqa: SLF001 - as kombu does
                        arguments += [tag, queue, json.dumps(message)]
            if arguments:
                client.register_script(_GIVE_BACK)([qos.unacked_key, qos.unacked_index_key], arguments)
        self._suspect.difference_update(self._left)
        self._left.clear()
