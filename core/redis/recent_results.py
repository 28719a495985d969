"""The latest results, read from the feed once for all readers of a process.

A thread follows the end of the feed while there are readers. Redis answers it as soon as a job settles. So
all idle readers together cost one command every `_BLOCK_SECONDS`. A reader that needs older results than this
module keeps reads them from Redis itself.
"""

from __future__ import annotations

import logging
import threading
import time
from bisect import bisect_right
from collections.abc import Callable
from itertools import takewhile
from operator import attrgetter
from typing import Final

from core.errors import RedisUnavailableError
from core.redis.feed import MAX_GATHERED, Cursor, Feed, Window
from core.redis.results import Result, ResultReader

logger = logging.getLogger(__name__)

MAX_KEPT: Final = 10_000
"""Latest results that are kept at least. Up to twice as many are, some 27 MB, so that it is seldom cut."""

_BLOCK_SECONDS: Final = 2.0  # less than the time-out of connections
_RETRY_SECONDS: Final = 0.5
_CURSOR: Final = attrgetter("cursor")


class RecentResults:
    """A window on the end of the feed. Safe to share between threads, not across a fork.

    Args:
        reader: reads the feed.
        gather: seconds between two reads while results come, unless all readers can wait longer: each read
            costs Redis and this process as much as some tens of results. A result after a pause is read at
            once.
    """

    def __init__(self, reader: ResultReader, *, gather: float) -> None:
        self._reader = reader
        self._gather = gather
        self._lock = threading.Lock()
        self._subscribers: dict[Callable[[], None], float] = {}  # seconds between two calls, by callback
        self._thread: threading.Thread | None = None
        self._results: list[Result] = []
        self._start: Cursor | None = None  # Everything after it is kept; None while nothing is.
        self._window: Window | None = None
        self._window_at = 0.0  # on the monotonic clock

    @property
    def feed(self) -> Feed:
        """The feed."""
        return self._reader.feed

    def subscribe(self, callback: Callable[[], None], gather: float | None = None) -> None:
        """Call a function after each change, in another thread.

        Args:
            callback: must not block or raise.
            gather: seconds that this reader can wait, if not those of all.
        """
        with self._lock:
            self._subscribers[callback] = self._gather if gather is None else gather
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="recent results", daemon=True)
                self._thread.start()

    def unsubscribe(self, callback: Callable[[], None]) -> None:
        """Undo `subscribe`."""
        with self._lock:
            del self._subscribers[callback]

    @property
    def last_window(self) -> Window | None:
        """The period of which results are kept, as it was a few seconds ago; None if it is unknown."""
        return self._window

    def kept(self, cursor: Cursor, limit: int) -> list[Result] | None:
        """Return the next results, at most `limit`; None if results after the cursor are not kept here."""
        with self._lock:
            if self._start is None or cursor < self._start:
                return None
            at = bisect_right(self._results, cursor, key=_CURSOR)
            return self._results[at : at + limit]

    def read(self, cursor: Cursor, limit: int) -> list[Result]:
        """Return the next results, at most `limit`, from memory or else from Redis.

        Raises:
            CursorExpiredError: some may not be kept any more.
            RedisUnavailableError: Redis is down.
        """
        results = self.kept(cursor, limit)
        if results is None:
            results = self._reader.read(cursor, limit)
            self._reader.feed.window().check(cursor)  # after reading, so that nothing has gone meanwhile
        return results

    def _run(self) -> None:
        cursor: Cursor | None = None
        while self._goes_on():
            try:
                cursor = self._begin() if cursor is None else self._follow(cursor)
            except RedisUnavailableError as error:
                logger.debug("The feed cannot be followed: %s", error)
                cursor = None
            except Exception:  # Without this thread no reader would get anything.
                logger.exception("Unexpected error while the feed is followed")
                cursor = None
            if cursor is None:
                self._forget()

    def _goes_on(self) -> bool:
        """Return whether there are readers; if not, forget everything: the next reader begins anew."""
        with self._lock:
            if not self._subscribers:
                self._thread = self._start = self._window = None
                self._results = []
            return bool(self._subscribers)

    def _begin(self) -> Cursor:
        """Keep results that settle from now on."""
        self._look_at_clock()
        end = self._reader.feed.end()
        with self._lock:
            self._start = end
        self._notify()
        return end

    def _look_at_clock(self) -> None:
        self._window = self._reader.feed.window()
        self._window_at = time.monotonic()

    def _follow(self, cursor: Cursor) -> Cursor:
        results = self._reader.wait(cursor, _BLOCK_SECONDS)
        if time.monotonic() - self._window_at >= _BLOCK_SECONDS:
            self._look_at_clock()
        if not results:
            return cursor
        for result in results:
            _ = result.json  # written here, rather than in a reader's event loop
        with self._lock:
            self._results += results
            if any(result.job is None for result in results):
                self._keep_after_gap()
            if len(self._results) > 2 * MAX_KEPT:
                self._start = self._results[-MAX_KEPT - 1].cursor
                del self._results[:-MAX_KEPT]
        self._notify()
        if len(results) < MAX_GATHERED:
            time.sleep(self._pause())
        return results[-1].cursor

    def _pause(self) -> float:
        with self._lock:
            return min(self._subscribers.values(), default=0.0)

    def _keep_after_gap(self) -> None:
        """Keep only what follows the last expired record: `ResultReader.read` tells readers before it."""
        whole = list(takewhile(lambda result: result.job is not None, reversed(self._results)))[::-1]
        self._start = self._results[-len(whole) - 1].cursor
        self._results = whole

    def _forget(self) -> None:
        """Keep nothing, so that readers read for themselves; wait a moment before the thread begins anew."""
        with self._lock:
            self._results, self._start, self._window = [], None, None
        time.sleep(_RETRY_SECONDS)

    def _notify(self) -> None:
        with self._lock:
            subscribers = list(self._subscribers)
        for callback in subscribers:
            callback()
