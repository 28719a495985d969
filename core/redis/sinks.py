"""Sinks: how far each reader of the feed has come, and why one does not get on."""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import redis

from core.redis import keys
from core.redis.client import translated
from core.redis.feed import Cursor, Feed

ARCHIVE: Final = "archive"
"""Name of the sink that writes the hours of results to storage."""

_PERIOD_MS: Final = {ARCHIVE: 3_600_000}
"""Sinks that carry out whole periods: their results are due when the period is over."""


class SinkState(NamedTuple):
    """State of a sink.

    Attributes:
        name: `archive`, `mqtt` or `webhook:{id}`.
        behind: seconds since the oldest result was due that it has not carried out; 0 without one.
        error: why it does not get on, a sentence; empty while it does.
        gaps: how often results were no longer kept when it came to them.
        cursor: where it goes on, as text.
    """

    name: str
    behind: float
    error: str
    gaps: int
    cursor: str


class SinkStore:
    """Keeps the cursors of sinks. Every method raises `RedisUnavailableError` while Redis is down."""

    def __init__(self, client: redis.Redis, feed: Feed) -> None:
        self._client = client
        self._feed = feed

    def cursor(self, name: str) -> Cursor | None:
        """Return where a sink goes on; None if it is unknown."""
        with translated():
            text = self._client.hget(keys.SINKS, name)
        return None if text is None else Cursor.parse(str(text))

    def advance(self, name: str, cursor: Cursor) -> None:
        """Note that a sink has carried out everything before a cursor. A new sink begins there."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.SINKS, name, str(cursor))
            pipe.hdel(keys.SINK_ERRORS, name)
            pipe.execute()

    def fail(self, name: str, sentence: str) -> None:
        """Note why a sink does not get on."""
        with translated():
            self._client.hset(keys.SINK_ERRORS, name, sentence)

    def skip(self, name: str, cursor: Cursor) -> None:
        """Go on at a cursor although results before it were never carried out, and count that."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.SINKS, name, str(cursor))
            pipe.hincrby(keys.SINK_GAPS, name, 1)
            pipe.execute()

    def remove(self, name: str) -> None:
        """Forget a sink."""
        with translated(), self._client.pipeline() as pipe:
            for key in (keys.SINKS, keys.SINK_ERRORS, keys.SINK_GAPS):
                pipe.hdel(key, name)
            pipe.execute()

    def states(self) -> list[SinkState]:
        """Return the state of each sink, by name."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for key in (keys.SINKS, keys.SINK_ERRORS, keys.SINK_GAPS):
                pipe.hgetall(key)
            pipe.time()
            cursors, errors, gaps, (seconds, microseconds) = pipe.execute()
        now = seconds * 1000 + microseconds // 1000
        return [
            SinkState(name, self._behind(name, text, now), errors.get(name, ""), int(gaps.get(name, 0)), text)
            for name, text in sorted(cast(dict[str, str], cursors).items())
        ]

    def _behind(self, name: str, text: str, now: int) -> float:
        cursor = Cursor.parse(text)
        waiting = self._feed.read(cursor, 1) if cursor else []
        if not waiting:
            return 0.0
        due = waiting[0].cursor.ms
        if period := _PERIOD_MS.get(name):
            due = (due // period + 1) * period
        return max(0, now - due) / 1000
