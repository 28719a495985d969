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
        self._left: list[str] = []  # delivery tags, oldest first

    def watch(self, channel: Any) -> None:
        """Return the channel's messages in order when it closes, or keep their tags if it is broken."""
        if channel is self._watched:
            return
        self._watched = channel
        # kombu's own fails with an AttributeError when the connection is broken, which ends the worker
        # (5.7; tests/chaos kills Redis to see that it does not), and turns their order round.
        channel.qos.restore_unacked = partial(self._restore, channel.qos)

    def renew(self, channel: Any) -> None:
        """Move the time at which the channel's messages count as abandoned; return those left behind.

        Raises the broker's connection errors.
        """
        self.watch(channel)
        qos = channel.qos
        self._return(qos)
        tags = [tag for tag in qos._delivered if tag not in qos._dirty]  # noqa: SLF001 - pinned by tests/contract
        if not tags:
            return
        with qos.pipe_or_acquire() as pipe:
            # XX: a message acknowledged meanwhile must not come back.
            pipe.zadd(qos.unacked_index_key, dict.fromkeys(tags, time.time()), xx=True)
            pipe.execute()

    def _restore(self, qos: Any, client: Any = None) -> None:  # noqa: ARG002 - kombu's signature
        self._left += qos._delivered  # noqa: SLF001 - as above
        qos._delivered.clear()  # noqa: SLF001 - as kombu does
        try:
            self._return(qos)
        except (*qos.channel.connection_errors, AttributeError) as error:
            logger.info("%d messages are returned once Redis is back (%r)", len(self._left), error)

    def _return(self, qos: Any) -> None:
        """Return messages to the end of the queue served next: the youngest first, so the oldest leads."""
        while self._left:
            qos.restore_by_tag(self._left[-1])
            self._left.pop()
