"""The lead of one sinks process among several, renewed by a thread, however long a delivery takes."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Final

import redis

from core.errors import RedisUnavailableError
from core.redis.leader import Leader

logger = logging.getLogger(__name__)

LEAD_SECONDS: Final = 8
"""Seconds after which another process takes over the sinks of one that was killed."""

_RENEW_SECONDS: Final = 2.0


class Leadership(threading.Thread):
    """Claims the lead until it is stopped."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(name="leadership", daemon=True)
        process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"  # containers share pids
        self._leader = Leader(client, "sinks", process, seconds=LEAD_SECONDS)
        self._until = 0.0  # on the monotonic clock
        self._stopping = threading.Event()

    def held(self) -> bool:
        """Return whether this process leads now."""
        return time.monotonic() < self._until

    def run(self) -> None:
        """Claim and renew the lead."""
        while not self._stopping.wait(self._renew()):
            pass

    def stop(self) -> None:
        """Give up the lead."""
        self._stopping.set()
        self.join()
        self._until = 0.0
        with suppress(RedisUnavailableError):
            self._leader.resign()

    def _renew(self) -> float:
        began = time.monotonic()
        led = self.held()
        try:
            if self._leader.lead():
                self._until = began + LEAD_SECONDS
                if not led:
                    logger.info("This process runs the sinks")
            else:
                self._until = 0.0
        except RedisUnavailableError as error:
            logger.debug("The lead was not renewed: %s", error)
        return _RENEW_SECONDS
