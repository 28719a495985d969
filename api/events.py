"""Requests that wait for a job to settle: one subscription per process, fanned out in memory."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import redis
from redis.exceptions import RedisError

from core.jobs import Job
from core.redis.keys import SETTLED

logger = logging.getLogger(__name__)

_LOOK_AGAIN: Final = 1.0
"""Seconds after which a waiting request reads the job itself: a publication can be lost."""

_RECONNECT: Final = 0.5  # seconds between attempts to subscribe


class Waiters:
    """Wakes requests when the jobs they wait for settle.

    Args:
        client: Redis; the subscription takes a connection of its own.
        most: requests that may wait at a time; further ones are answered at once, so that waiting
            never takes all threads from uploads.
    """

    def __init__(self, client: redis.Redis, most: int) -> None:
        self._client = client
        self._places = threading.BoundedSemaphore(most)
        self._events: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None
        self.closing: Callable[[], bool] = lambda: False
        """Whether the process is about to end, so that no request should go on waiting."""

    def settled(self, job_id: str, read: Callable[[str], Job | None], seconds: float) -> Job | None:
        """Return the job as soon as it is terminal, or as it is after `seconds`; None if unknown."""
        if seconds <= 0 or not self._places.acquire(blocking=False):
            return read(job_id)
        try:
            with self._watch(job_id) as event:
                return self._wait(job_id, read, seconds, event)
        finally:
            self._places.release()

    def _wait(
        self, job_id: str, read: Callable[[str], Job | None], seconds: float, event: threading.Event
    ) -> Job | None:
        deadline = time.monotonic() + seconds
        while True:
            job = read(job_id)
            left = deadline - time.monotonic()
            if job is None or job.state.terminal or left <= 0 or self.closing():
                return job
            event.wait(min(left, _LOOK_AGAIN))

    @contextmanager
    def _watch(self, job_id: str) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._events[job_id].add(event)
            if self._listener is None:
                self._listener = threading.Thread(target=self._listen, name="settled", daemon=True)
                self._listener.start()
        try:
            yield event
        finally:
            with self._lock:
                self._events[job_id].discard(event)
                if not self._events[job_id]:
                    del self._events[job_id]

    def _listen(self) -> None:
        while True:
            try:
                with self._client.pubsub(  # type: ignore[no-untyped-call]
                    ignore_subscribe_messages=True
                ) as subscription:
                    subscription.subscribe(SETTLED)
                    for message in subscription.listen():
                        self._wake(message["data"].split(" "))
            except RedisError as error:
                # Down or restarting. Waiting requests look for themselves until it is back.
                logger.info("The subscription to settled jobs broke off: %s", error)
                time.sleep(_RECONNECT)

    def _wake(self, job_ids: list[str]) -> None:
        with self._lock:
            for job_id in job_ids:
                for event in self._events.get(job_id, ()):
                    event.set()
