"""State of sinks: the cursor of each, its error, and its gaps."""

from __future__ import annotations

from typing import Final, NamedTuple, cast

import redis

from core.redis import keys
from core.redis.client import translated
from core.redis.feed import Cursor, Feed

ARCHIVE: Final = "archive"
"""Name of the sink that writes the hours of results to storage."""

MQTT: Final = "mqtt"
"""Name of the sink that publishes results to a broker."""

_PERIOD_MS: Final = {ARCHIVE: 3_600_000}
"""Sinks that deliver whole periods: results are due when their period is over."""


class SinkState(NamedTuple):
    """State of a sink.

    Attributes:
        name: `archive`, `mqtt` or `webhook:{id}`.
        behind: seconds since the oldest undelivered result was due; 0 without one.
        error: reason why it stands still, a sentence; empty while it works.
        gaps: times that results expired before it read them.
        cursor: its cursor, as text.
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
        """Return a sink's cursor; None if the sink is unknown."""
        with translated():
            text = self._client.hget(keys.SINKS, name)
        return None if text is None else Cursor.parse(str(text))

    def advance(self, name: str, cursor: Cursor) -> None:
        """Record that a sink has delivered everything before a cursor. A new sink begins there."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.SINKS, name, str(cursor))
            pipe.hdel(keys.SINK_ERRORS, name)
            pipe.execute()

    def fail(self, name: str, sentence: str) -> None:
        """Record the error that stops a sink."""
        with translated():
            self._client.hset(keys.SINK_ERRORS, name, sentence)

    def skip(self, name: str, cursor: Cursor) -> None:
        """Continue at a cursor although results before it were not delivered, and count the gap."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.SINKS, name, str(cursor))
            pipe.hincrby(keys.SINK_GAPS, name, 1)
            pipe.execute()

    def remove(self, *names: str) -> None:
        """Forget sinks, at least one: they are behind no longer, and begin anew if they come back."""
        with translated(), self._client.pipeline() as pipe:
            for key in (keys.SINKS, keys.SINK_ERRORS, keys.SINK_GAPS):
                pipe.hdel(key, *names)
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
