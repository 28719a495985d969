"""Connections of event streams, on real sockets, while Redis is away."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest

from api.routes.events import StreamRequest
from api.server.event_streams import HEARTBEAT_SECONDS, EventStream, EventStreams
from api.services import Services
from core.redis.feed import Cursor
from core.redis.results import ResultFilter
from core.settings import Settings
from tests.support.servers import free_port

CURSOR = Cursor(1_769_843_700_000, 0, 1)
REQUEST = StreamRequest(CURSOR, ResultFilter(), "", None, "192.0.2.1")


@contextlib.asynccontextmanager
async def open_stream() -> AsyncIterator[tuple[EventStream, socket.socket, asyncio.StreamReader]]:
    """Yield a stream whose process has no Redis, its socket, and the reader of its client."""
    loop, connected = asyncio.get_running_loop(), asyncio.Queue[asyncio.Transport]()

    class Accepted(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            assert isinstance(transport, asyncio.Transport)
            connected.put_nowait(transport)

    services = Services.open(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    streams = EventStreams(services, loop)
    server = await loop.create_server(Accepted, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    transport = await connected.get()
    stream = streams.open(REQUEST, transport)
    try:
        yield stream, transport.get_extra_info("socket"), reader
    finally:
        streams.remove(stream)
        streams.close()
        writer.close()
        server.close()


def test_heartbeats_come_while_redis_is_away() -> None:
    """With the cursor that was sent last, so that proxies keep the connection."""

    async def read_heartbeat() -> bytes:
        async with open_stream() as (stream, _, reader):
            stream.check(time.monotonic() + HEARTBEAT_SECONDS + 1)
            return await asyncio.wait_for(reader.readuntil(b"\n\n"), 20)

    assert asyncio.run(read_heartbeat()) == f": heartbeat\nid: {CURSOR}\n\n".encode()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="Linux has it")
def test_a_client_that_acknowledges_nothing_is_dropped_soon() -> None:
    """By the system, and so its place is free: a machine without power says nothing."""

    async def read_timeout() -> int:
        async with open_stream() as (_, connection, _):
            return int(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))

    assert asyncio.run(read_timeout()) == 30_000
