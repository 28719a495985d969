"""Readiness probes that ask Redis, with a timeout of half a second."""

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
    """Return whether Redis answers: it has loaded its file."""
    try:
        JobStore(connect(url, timeout=_TIMEOUT)).ping()
    except WastestreamError:
        return False
    return True


class WorkerProbe:
    """The heartbeat of one worker in Redis."""

    def __init__(self, url: str, name: str) -> None:
        self._workers = WorkerRegistry(connect(url, timeout=_TIMEOUT))
        self._name = f"{name}@{socket.gethostname()}"  # as Celery expands `NAME@%h`

    def seen(self) -> bool:
        """Return whether the worker has sent a heartbeat."""
        try:
            return self._name in self._workers.names()
        except WastestreamError:
            return False

    def alive(self) -> bool:
        """Return whether the worker sends heartbeats; True while Redis does not answer."""
        try:
            return self._name in self._workers.names()
        except WastestreamError:
            return True

    def forget(self) -> None:
        """Delete the heartbeat of a dead worker, so that its successor is not ready too early."""
        with contextlib.suppress(WastestreamError):  # Redis is down: no probe can mistake the old heartbeat.
            self._workers.gone(self._name)
