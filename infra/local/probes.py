"""Questions to Redis that tell whether a process is ready. None waits longer than half a second."""

from __future__ import annotations

import contextlib
import socket
from typing import Final

from core.errors import WastestreamError
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry

_TIMEOUT: Final = 0.5  # seconds


def redis_answers(url: str) -> bool:
    """Return whether Redis answers, which it does once it has read its file."""
    try:
        JobStore(connect(url, timeout=_TIMEOUT)).ping()
    except WastestreamError:
        return False
    return True


class Worker:
    """One worker's sign of life in Redis."""

    def __init__(self, url: str, name: str) -> None:
        self._workers = WorkerRegistry(connect(url, timeout=_TIMEOUT))
        self._name = f"{name}@{socket.gethostname()}"  # as Celery makes it of `NAME@%h`

    def seen(self) -> bool:
        """Return whether the worker has reported itself."""
        try:
            return self._name in self._workers.names()
        except WastestreamError:
            return False

    def alive(self) -> bool:
        """Return whether the worker reports itself; True as well while Redis cannot be asked."""
        try:
            return self._name in self._workers.names()
        except WastestreamError:
            return True

    def forget(self) -> None:
        """Drop the sign of life of a worker that has died, so that the next one's is its own."""
        with contextlib.suppress(WastestreamError):  # Redis is down: then there is nothing to mistake either.
            self._workers.gone(self._name)
