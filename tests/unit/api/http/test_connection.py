"""api.http.connection: when a connection counts as idle."""

from __future__ import annotations

import asyncio
import socket

import pytest

from api.app import create_app
from api.http import connection as module
from api.http.server import Server
from core.settings import Settings

_CALL = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx"


def test_an_empty_line_after_a_request_begins_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Old clients send one after a body, together with it or later (RFC 9112, 2.2), and are then idle."""
    monkeypatch.setattr(module, "HEAD_SECONDS", 0.0)

    async def use() -> None:
        server = Server(create_app(Settings(auth="off")), asyncio.get_running_loop())
        listening = socket.create_server(("127.0.0.1", 0))
        await server.listen([listening])
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        for together, later in [(b"\r\n", b""), (b"", b"\r\n"), (b"\r\n\r\n", b"\r\n"), (b"", b"")]:
            writer.write(_CALL + together)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
            writer.write(later)
            await asyncio.sleep(0.02)  # for the server to take it; what is too late is asked next
            server.check()
        writer.close()
        await server.close(1)

    asyncio.run(use())
