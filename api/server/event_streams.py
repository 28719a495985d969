"""Event streams of one process: they live in the event loop, and hold no thread.

A thread follows the feed for all streams and keeps the latest results (`core.redis.recent_results`). A stream
that needs older results gets them from Redis, through a few threads that all streams share.
"""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.auth.policy import needs_key
from api.http.event_stream import events, heartbeat
from api.routes.events import MAX_EVENTS, StreamRequest
from api.server.limits import TransferMonitor
from api.services import Services
from core.errors import CursorExpiredError, RedisUnavailableError
from core.redis.feed import Cursor
from core.redis.results import Page, ResultFilter, read_page
from core.redis.streams import REPORT_SECONDS

logger = logging.getLogger(__name__)

HEARTBEAT_SECONDS: Final = 15.0
"""Pause after which a stream without events gets a comment, so that proxies keep its connection."""

_ACK_MS: Final = 30_000  # for the system of a client to acknowledge what was sent; then the client is gone
_READERS: Final = 2  # threads for streams that are behind
_MAX_SCANNED: Final = 1000  # results that one step of a stream looks at in the event loop


class _Chunk:
    """Bytes to send, and the cursor after them. Streams with the same filter share it."""

    __slots__ = ("at_end", "cursor", "data")

    def __init__(self, page: Page) -> None:
        self.data = events(page.results)
        self.cursor = page.cursor
        self.at_end = page.at_end


class EventStream:
    """One stream. All methods are for the event loop.

    Args:
        streams: all of them.
        transport: of the client's connection.
        request: the accepted stream.
    """

    def __init__(self, streams: EventStreams, transport: asyncio.Transport, request: StreamRequest) -> None:
        self.request: Final = request
        self._streams = streams
        self._transport = transport
        self._cursor = request.cursor
        self._is_reading = False  # from Redis
        self._sent_at = time.monotonic()
        self._unread = transport.get_write_buffer_size()  # when the last chunk was sent
        self._transfer = TransferMonitor(self._sent_at)

    @property
    def _is_full(self) -> bool:
        """Whether the client has not read everything yet."""
        return self._transport.get_write_buffer_size() > 0

    def step(self) -> None:
        """Send the next events, once the client has read the last ones."""
        if self._is_reading or self._is_full or self._transport.is_closing():
            return
        chunk = self._streams.kept(self.request.wanted, self._cursor)
        if chunk is None:
            self._is_reading = True
            self._streams.read(self, self.request.wanted, self._cursor)
        else:
            self._take(chunk)

    def on_read(self, chunk: _Chunk | None) -> None:
        """Go on with a page read from Redis; None if Redis does not answer."""
        self._is_reading = False
        if chunk is not None and not self._transport.is_closing():
            self._take(chunk)

    def check(self, now: float) -> None:
        """End the stream of a client that reads too slowly; send a heartbeat if it is due."""
        if self._is_full:
            if self._transfer.is_too_slow(now, self._unread - self._transport.get_write_buffer_size()):
                self._transport.abort()
            return
        self.step()
        if now - self._sent_at >= HEARTBEAT_SECONDS and not self._is_full:
            if not self._is_reading:  # as it is for long while Redis is away
                self._cursor = self._streams.refreshed(self._cursor)
            self._send(heartbeat(self._cursor))

    def end(self) -> None:
        """Close the connection."""
        if self._is_full:
            self._transport.abort()
        else:
            self._transport.close()

    def _take(self, chunk: _Chunk) -> None:
        self._cursor = chunk.cursor
        if chunk.data:
            self._send(chunk.data)
        if not chunk.at_end:
            self._streams.step_soon(self)

    def _send(self, data: bytes) -> None:
        self._transport.write(data)
        self._sent_at = time.monotonic()
        self._unread, self._transfer = self._transport.get_write_buffer_size(), TransferMonitor(self._sent_at)


class EventStreams:
    """All streams of a process. All methods are for the event loop.

    Args:
        services: of the process.
        loop: the event loop.
    """

    def __init__(self, services: Services, loop: asyncio.AbstractEventLoop) -> None:
        self._services = services
        self._loop = loop
        self._streams: set[EventStream] = set()
        self._chunks: dict[tuple[ResultFilter, Cursor], _Chunk | None] = {}
        self._executor = ThreadPoolExecutor(_READERS, thread_name_prefix="events")
        self._is_woken = False
        self._process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._reported = 0  # number of streams
        self._checked_at = 0.0
        self._is_checking = False
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def limit(self) -> int:
        """Maximum number of streams."""
        return self._services.settings.api_streams

    def has_room(self, request: StreamRequest) -> bool:
        """Return whether one more may open; one key, or one address without key, may have half of them."""
        own = sum(stream.request.owner == request.owner for stream in self._streams)
        return len(self._streams) < self.limit and own < max(1, self.limit // 2)

    def open(self, request: StreamRequest, transport: asyncio.Transport) -> EventStream:
        """Begin a stream whose response has just been sent."""
        stream = EventStream(self, transport, request)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # not everywhere; Linux' default is some 15 minutes
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _ACK_MS)
        if not self._streams:
            self._services.recent.subscribe(self._wake)
        self._streams.add(stream)
        self.step_soon(stream)
        return stream

    def remove(self, stream: EventStream) -> None:
        """Forget a stream whose connection has ended."""
        self._streams.discard(stream)
        if not self._streams:
            self._services.recent.unsubscribe(self._wake)

    def check(self, now: float) -> None:
        """Check the keys of all streams, and report their number; to be called about once a second."""
        self._chunks.clear()  # for the memory
        due = now - self._checked_at >= REPORT_SECONDS or len(self._streams) != self._reported
        if (self._streams or self._reported) and due and not self._is_checking:
            self._is_checking, self._checked_at, self._reported = True, now, len(self._streams)
            self._start(self._check(list(self._streams)))

    def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        for stream in list(self._streams):
            stream.end()
        self._executor.shutdown(wait=False, cancel_futures=True)

    # ---- Calls of streams ------------------------------------------------------------------------

    def kept(self, wanted: ResultFilter, cursor: Cursor) -> _Chunk | None:
        """Return the next events from memory; None if they are not there."""
        key = (wanted, cursor)
        if key not in self._chunks:
            self._chunks[key] = self._read_kept(wanted, cursor)
        return self._chunks[key]

    def read(self, stream: EventStream, wanted: ResultFilter, cursor: Cursor) -> None:
        """Read the next events from Redis, then call `EventStream.on_read`."""
        self._start(self._read(stream, wanted, cursor))

    def refreshed(self, cursor: Cursor) -> Cursor:
        """Return the cursor of a stream without events, moved on so that it does not become too old."""
        recent = self._services.recent
        window = recent.last_window
        return max(cursor, window.middle) if window and recent.kept(cursor, 1) == [] else cursor

    def step_soon(self, stream: EventStream) -> None:
        """Let a stream go on, after others."""
        self._loop.call_soon(stream.step)

    # ---- Helpers ---------------------------------------------------------------------------------

    def _start(self, work: Coroutine[None, None, None]) -> None:
        if self._is_closed:
            work.close()
            return
        task = self._loop.create_task(work)
        self._tasks.add(task)  # The loop itself would not keep it.
        task.add_done_callback(self._tasks.discard)

    def _wake(self) -> None:
        """Let the streams go on; called by the thread that follows the feed."""
        if not self._is_woken:
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._step_all)

    def _step_all(self) -> None:
        self._is_woken = False
        self._chunks.clear()
        for stream in list(self._streams):
            stream.step()

    def _read_kept(self, wanted: ResultFilter, cursor: Cursor) -> _Chunk | None:
        recent = self._services.recent
        if recent.kept(cursor, 0) is None:
            return None
        return _Chunk(
            read_page(
                lambda after, limit: recent.kept(after, limit) or [],
                cursor,
                wanted,
                MAX_EVENTS,
                _MAX_SCANNED,
            )
        )

    async def _read(self, stream: EventStream, wanted: ResultFilter, cursor: Cursor) -> None:
        try:
            chunk = await self._loop.run_in_executor(self._executor, self._read_redis, wanted, cursor)
        except CursorExpiredError:
            stream.end()  # The client is told when it connects again.
        except RedisUnavailableError:
            stream.on_read(None)
        except Exception:
            logger.exception("Unexpected error in a stream of events")
            stream.end()
        else:
            stream.on_read(chunk)

    def _read_redis(self, wanted: ResultFilter, cursor: Cursor) -> _Chunk:
        """Read from Redis; in a thread."""
        return _Chunk(read_page(self._services.recent.read, cursor, wanted, MAX_EVENTS, _MAX_SCANNED))

    async def _check(self, streams: Sequence[EventStream]) -> None:
        requests = [stream.request for stream in streams]
        try:
            allowed = await self._loop.run_in_executor(self._executor, self._allowed, requests)
        finally:
            self._is_checking = False
        for stream, is_allowed in zip(streams, allowed, strict=True):
            if not is_allowed:
                stream.end()

    def _allowed(self, requests: Sequence[StreamRequest]) -> list[bool]:
        """Report the number of streams; return whether each may go on; in a thread."""
        settings, key_cache = self._services.settings, self._services.key_cache
        try:
            self._services.streams.report(self._process, len(requests))
            anonymous = not needs_key(settings, key_cache)
            return [
                anonymous if request.key is None else key_cache.find(request.token) == request.key
                for request in requests
            ]
        except RedisUnavailableError:  # Nobody can tell; nor are there results.
            return [True] * len(requests)
