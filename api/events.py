"""Job events for requests that wait: one Redis subscription per process, fanned out in memory."""

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
from core.redis.recent_results import RecentResults

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 1.0
"""Interval at which a waiting request reads the job itself, because Redis can lose a publication."""

_GATHER_SECONDS: Final = 0.05  # between two reads of a request that waits for any result

_RECONNECT_SECONDS: Final = 0.5  # between attempts to subscribe


class JobEvents:
    """Wakes requests when the jobs that they wait for settle.

    Args:
        client: Redis; the subscription takes a connection of its own.
        max_waiting: requests that may wait at a time; further ones do not wait, so that uploads always
            find a thread.
    """

    def __init__(self, client: redis.Redis, max_waiting: int) -> None:
        self.waiting = 0
        """Number of requests that wait now."""
        self._client = client
        self._max_waiting = max_waiting
        self._events: defaultdict[str, set[threading.Event]] = defaultdict(set)
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None
        self.closing: Callable[[], bool] = lambda: False
        """Returns whether the process is stopping, so that no request should wait any longer."""

    def wait_settled(self, job_id: str, read: Callable[[str], Job | None], seconds: float) -> Job | None:
        """Return the job as soon as its state is terminal, or after `seconds`; None if it is unknown."""
        if seconds <= 0 or not self._begin():
            return read(job_id)
        try:
            with self._subscribe(job_id) as event:
                return self._wait(job_id, read, seconds, event)
        finally:
            self._end()

    def wait_any(self, recent: RecentResults, read: Callable[[], bool], seconds: float) -> bool:
        """Return true as soon as `read` does, false after `seconds`; call it after jobs have settled.

        Args:
            recent: the latest results, which `read` reads: Redis is not asked for every waiting request.
            read: returns whether there is a result.
            seconds: to wait at most.
        """
        if seconds <= 0 or not self._begin():
            return read()
        woken, deadline = threading.Event(), time.monotonic() + seconds
        recent.subscribe(woken.set)
        try:
            while True:
                began = time.monotonic()
                ready, left = read(), deadline - time.monotonic()
                if ready or left <= 0 or self.closing():
                    return ready
                woken.wait(min(left, _POLL_SECONDS))
                time.sleep(max(0.0, min(began + _GATHER_SECONDS, deadline) - time.monotonic()))
                woken.clear()
        finally:
            recent.unsubscribe(woken.set)
            self._end()

    def _begin(self) -> bool:
        """Return whether one more request may wait."""
        with self._lock:
            may_wait = self.waiting < self._max_waiting
            self.waiting += may_wait
        return may_wait

    def _end(self) -> None:
        with self._lock:
            self.waiting -= 1

    def _wait(
        self, job_id: str, read: Callable[[str], Job | None], seconds: float, event: threading.Event
    ) -> Job | None:
        deadline = time.monotonic() + seconds
        while True:
            job = read(job_id)
            left = deadline - time.monotonic()
            if job is None or job.state.terminal or left <= 0 or self.closing():
                return job
            event.wait(min(left, _POLL_SECONDS))

    @contextmanager
    def _subscribe(self, job_id: str) -> Iterator[threading.Event]:
        event = threading.Event()
        with self._lock:
            self._events[job_id].add(event)
            if self._listener is None:
                self._listener = threading.Thread(target=self._listen, name="job-events", daemon=True)
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
                # Waiting requests read their jobs themselves until Redis is back.
                logger.info("The subscription to job events was interrupted: %s", error)
                time.sleep(_RECONNECT_SECONDS)

    def _wake(self, job_ids: list[str]) -> None:
        with self._lock:
            for job_id in job_ids:
                for event in self._events.get(job_id, ()):
                    event.set()
