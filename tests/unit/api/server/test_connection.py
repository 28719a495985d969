"""api.server.connection and api.server.server, on real connections: idleness, and the address in the log."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from api.app import create_app
from api.server import connection as module
from api.server.server import Server
from core.settings import Settings

_FIELDS = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


class _Client:
    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def call(self, data: bytes) -> bytes:
        """Send it; return the response's header."""
        self.writer.write(data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        await self.reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
        return head


@asynccontextmanager
async def _client(settings: Settings) -> AsyncIterator[_Client]:
    """A client of a server of its own."""
    server = Server(create_app(settings), asyncio.get_running_loop())
    listening = socket.create_server(("127.0.0.1", 0))
    await server.listen([listening])
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    yield _Client(server, reader, writer)
    writer.close()
    await server.close(1)


def test_an_empty_line_after_a_request_begins_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old clients send one after a body, together with it or later (RFC 9112, 2.2), and are then idle."""
    monkeypatch.setattr(module, "HEAD_TIMEOUT", 0.0)

    async def use() -> None:
        async with _client(Settings(auth="off")) as client:
            for with_body, later in [(b"\r\n", b""), (b"", b"\r\n"), (b"\r\n\r\n", b"\r\n"), (b"", b"")]:
                head = await client.call(_FIELDS + b"Content-Length: 1\r\n\r\nx" + with_body)
                assert head.startswith(b"HTTP/1.1 200 ")
                client.writer.write(later)
                await asyncio.sleep(0.02)  # for the server to take it; what is too late is asked next
                client.server.check()

    asyncio.run(use())


def test_the_log_has_the_address_from_a_trusted_proxy(capsys: pytest.CaptureFixture[str]) -> None:
    """Not the address of the connection, which is the proxy's."""

    async def use() -> None:
        async with _client(Settings(auth="off", trusted_proxies=1, access_log=True)) as client:
            await client.call(_FIELDS + b"X-Forwarded-For: evil, 203.0.113.1\r\n\r\n")

    asyncio.run(use())
    assert '"address": "203.0.113.1"' in capsys.readouterr().out
