"""Thread that runs one sink while its process leads."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from typing import Final, Protocol

import redis

from core.errors import CursorExpiredError, RedisUnavailableError, WastestreamError
from core.redis.feed import Cursor
from core.redis.recent_results import RecentResults
from core.redis.sinks import SinkStore

logger = logging.getLogger(__name__)

GATHER_SECONDS: Final = 0.25
"""Seconds for which results gather before a sink delivers them, if it delivers at once."""

_STANDBY_SECONDS: Final = 1.0  # between looks whether this process leads now
_IDLE_SECONDS: Final = 2.0  # between deliveries without new results: an hour of the archive may be over
_FIRST_PAUSE: Final = 1.0  # seconds after a failure, doubled with each further one


class DeliveryError(WastestreamError):
    """Raised when results cannot be delivered now; a sentence for the operator."""


class Sink(Protocol):
    """Delivers results somewhere.

    Attributes:
        name: of its cursor.
        gather: seconds for which results gather before a delivery.
        max_pause: maximum seconds between two attempts while it stands still.
    """

    name: str
    gather: float
    max_pause: float

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Deliver results after a cursor, a bounded number.

        Returns:
            The cursor after them; None if nothing is due.

        Raises:
            DeliveryError: to be tried again from the same cursor.
            CursorExpiredError: results after the cursor are no longer kept. The sink goes on at `oldest`.
        """

    def close(self) -> None:
        """Give up connections; `deliver` may be called again."""


class Runner(threading.Thread):
    """Runs one sink until it is stopped: lets it deliver from its cursor on, stores the cursor after that.

    A process that is killed between delivery and storing delivers again: at least once. An idle sink asks
    Redis nothing; it is woken by what all sinks of the process share.

    Args:
        sink: to run; used by this thread alone.
        client: Redis.
        recent: the results.
        leads: returns whether this process is the one whose sinks work.
    """

    def __init__(
        self, sink: Sink, client: redis.Redis, recent: RecentResults, leads: Callable[[], bool]
    ) -> None:
        super().__init__(name=f"sink {sink.name}", daemon=True)
        self._sink = sink
        self._recent = recent
        self._store = SinkStore(client, recent.feed)
        self._leads = leads
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._follows = False
        self._cursor: Cursor | None = None  # None: as it is stored
        self._failures = 0

    def stop(self) -> None:
        """End the thread after the delivery in progress."""
        self._stopping.set()
        self._woken.set()

    def run(self) -> None:
        """Deliver until stopped."""
        try:
            while not self._stopping.wait(self._step()):
                pass
        finally:
            self._follow(follows=False)
            self._sink.close()

    def _step(self) -> float:
        """Deliver once if this process leads; return the seconds until the next step."""
        self._woken.clear()
        leads = self._leads()
        self._follow(follows=leads)
        try:
            if leads:
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

    def _follow(self, *, follows: bool) -> None:
        """Be woken by new results, or not. A process that does not lead does not know the cursor."""
        if follows != self._follows:
            if follows:
                self._recent.subscribe(self._woken.set, self._sink.gather)
            else:
                self._recent.unsubscribe(self._woken.set)
            self._follows, self._cursor = follows, None

    def _deliver(self) -> float:
        try:
            cursor = self._cursor = self._cursor or self._stored()
            after = self._sink.deliver(cursor)
            if after is None:
                self._refresh(cursor)
        except CursorExpiredError as error:
            restart = Cursor.parse(error.oldest) or self._recent.feed.window().restart
            logger.warning(
                "The sink %s has missed results before %s: they expired before it read them",
                self._sink.name,
                restart,
            )
            self._store.skip(self._sink.name, restart)
            self._cursor = restart
            return 0.0
        self._failures = 0
        if after is not None:
            self._advance(after)
            return 0.0
        self._woken.wait(_IDLE_SECONDS)
        return 0.0

    def _stored(self) -> Cursor:
        """Return where the sink goes on, which for a new one is the oldest result.

        Raises:
            CursorExpiredError: results after it may not be kept any more.
        """
        window = self._recent.feed.window()
        cursor = self._store.cursor(self._sink.name)
        if cursor is None:
            cursor = window.restart
            self._store.advance(self._sink.name, cursor)
        window.check(cursor)
        return cursor

    def _advance(self, cursor: Cursor) -> None:
        self._store.advance(self._sink.name, cursor)
        self._cursor = cursor

    def _refresh(self, cursor: Cursor) -> None:
        """Move on the cursor of a sink without results, so that it does not become too old."""
        window = self._recent.last_window
        if window is not None and cursor < window.middle and not self._recent.read(cursor, 1):
            self._advance(window.middle)

    def _failed(self, error: DeliveryError) -> float:
        try:
            self._store.fail(self._sink.name, str(error))
        except RedisUnavailableError as unavailable:
            return self._pause(unavailable)
        return self._pause(error)

    def _pause(self, error: WastestreamError) -> float:
        if self._failures == 0:
            logger.warning("The sink %s stands still: %s", self._sink.name, error)
        pause = min(self._sink.max_pause, _FIRST_PAUSE * float(2 ** min(self._failures, 10)))
        self._failures += 1
        # Spread, so that sinks that failed together do not come back together.
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
