"""Server-sent events (HTML standard, 9.2) of results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from core.redis.feed import Cursor
from core.redis.results import Result

MEDIA_TYPE: Final = "text/event-stream"

RETRY_MS: Final = 2000
"""Pause after which a client whose stream has ended connects again."""


def opening(cursor: Cursor) -> bytes:
    """Return lines without an event: the cursor, and the pause before a client connects again."""
    return f"retry: {RETRY_MS}\nid: {cursor}\n\n".encode()


def events(results: Iterable[Result]) -> bytes:
    """Return an event for each result. Its id is the cursor after it, its data the job's JSON document."""
    return "".join(
        [f"id: {result.cursor}\nevent: result\ndata: {result.json}\n\n" for result in results]
    ).encode()


def heartbeat(cursor: Cursor) -> bytes:
    """Return a comment and the cursor, for a stream without events."""
    return f": heartbeat\nid: {cursor}\n\n".encode()
