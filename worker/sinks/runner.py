"""Thread that runs one sink while its process leads."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Final, Protocol

import redis

from core.errors import CursorExpiredError, RedisUnavailableError, WastestreamError
from core.redis.feed import Cursor, Feed
from core.redis.sinks import SinkStore

logger = logging.getLogger(__name__)

_STANDBY_SECONDS: Final = 1.0  # between looks whether this process leads now
_IDLE_SECONDS: Final = 0.25  # between looks at a feed without new results
_FIRST_PAUSE: Final = 1.0  # seconds after a failure, doubled with each further one
_MAX_PAUSE: Final = 60.0


class DeliveryError(WastestreamError):
    """Raised when results cannot be delivered now; a sentence for the operator."""


class Sink(Protocol):
    """Delivers results somewhere."""

    name: str

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Deliver results after a cursor, a bounded number.

        Returns:
            The cursor after them; None if nothing is due.

        Raises:
            DeliveryError: to be tried again from the same cursor.
        """

    def close(self) -> None:
        """Give up connections; `deliver` may be called again."""


class Runner(threading.Thread):
    """Runs one sink until it is stopped: reads its cursor, lets it deliver, stores the cursor after that.

    A process that is killed between delivery and storing delivers again: at least once.

    Args:
        sink: to run; used by this thread alone.
        client: Redis.
        feed: of the results.
        leads: returns whether this process is the one whose sinks work.
    """

    def __init__(self, sink: Sink, client: redis.Redis, feed: Feed, leads: Callable[[], bool]) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self._sink = sink
        self._feed = feed
        self._store = SinkStore(client, feed)
        self._leads = leads
        self._stopping = threading.Event()
        self._failures = 0

    def stop(self) -> None:
        """End the thread after the delivery in progress."""
        self._stopping.set()

    def run(self) -> None:
        """Deliver until stopped."""
        try:
            while not self._stopping.wait(self._step()):
                pass
        finally:
            self._sink.close()

    def _step(self) -> float:
        """Deliver once if this process leads; return the seconds until the next step."""
        try:
            if self._leads():
                return self._deliver()
            self._sink.close()
            return _STANDBY_SECONDS
        except RedisUnavailableError as error:
            return self._pause(error)
        except DeliveryError as error:
            return self._failed(error)
        except Exception:
            logger.exception("The sink %s has a fault", self._sink.name)
            return self._failed(DeliveryError("The sink has a fault; its log has the cause."))

    def _deliver(self) -> float:
        name, window = self._sink.name, self._feed.window()
        cursor = self._store.cursor(name)
        if cursor is None:
            cursor = window.restart
            self._store.advance(name, cursor)
        try:
            window.check(cursor)
        except CursorExpiredError:
            logger.warning(
                "The sink %s has missed results before %s: they expired before it read them",
                name,
                window.restart,
            )
            self._store.skip(name, window.restart)
            return 0.0
        after = self._sink.deliver(cursor)
        self._failures = 0
        if after is not None:
            self._store.advance(name, after)
            return 0.0
        if cursor < window.middle and not self._feed.read(cursor, 1):
            self._store.advance(name, window.middle)  # A sink without results must not grow too old.
        return _IDLE_SECONDS

    def _failed(self, error: DeliveryError) -> float:
        try:
            self._store.fail(self._sink.name, str(error))
        except RedisUnavailableError as unavailable:
            return self._pause(unavailable)
        return self._pause(error)

    def _pause(self, error: WastestreamError) -> float:
        if self._failures == 0:
            logger.warning("The sink %s stands still: %s", self._sink.name, error)
        pause = min(_MAX_PAUSE, _FIRST_PAUSE * float(2 ** min(self._failures, 10)))
        self._failures += 1
        # Spread, so that sinks that failed together do not come back together.
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
