"""This worker's hold on the messages that it has not acknowledged."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

from celery.utils.log import get_logger

logger = get_logger(__name__)

RENEW_SECONDS: Final = 2.0
"""How often leases are renewed: several times within `core.queue.VISIBILITY_TIMEOUT`."""


class Leases:
    """Renews leases while the worker lives, and ends those of a broken connection once there is a new one.

    Without the latter, messages held when Redis restarts would wait for their leases to run out.
    """

    def __init__(self) -> None:
        self._watched: Any = None
        self._left: set[str] = set()

    def watch(self, channel: Any) -> None:
        """Keep the tags of the channel's messages, should its connection break."""
        if channel is self._watched:
            return
        self._watched = channel
        qos = channel.qos
        # kombu 5.7 returns messages to the queue when it closes a channel. On a broken connection that fails
        # with an AttributeError, which ends the worker; tests/chaos kills Redis to see that it does not.
        qos.restore_unacked = partial(self._restore, qos, qos.restore_unacked)

    def renew(self, channel: Any) -> None:
        """Move the time at which the channel's messages count as abandoned; return those left behind.

        Raises the broker's connection errors.
        """
        self.watch(channel)
        qos = channel.qos
        while self._left:
            qos.restore_by_tag(next(iter(self._left)))
            self._left.pop()
        tags = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001 - pinned by tests/contract
        if not tags:
            return
        with qos.pipe_or_acquire() as pipe:
            # XX: a message acknowledged meanwhile must not come back.
            pipe.zadd(qos.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            pipe.execute()

    def _restore(self, qos: Any, restore: Any, client: Any = None) -> None:
        tags = set(qos._delivered)  # noqa: SLF001 - as above
        try:
            restore(client)
        except (*qos.channel.connection_errors, AttributeError) as error:
            logger.info("%d messages are returned once Redis is back (%r)", len(tags), error)
            self._left |= tags
            qos._delivered.clear()  # noqa: SLF001 - as kombu does after returning them
