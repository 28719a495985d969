"""Slow clients: they occupy connections and upload places and do not read their responses."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_PAUSE: Final = 0.5  # seconds between two bytes of a slow client


@dataclass(frozen=True)
class Behaviour:
    """`count` clients that send `begin`, then the byte `drip` at every pause, and never read."""

    count: int
    begin: bytes
    drip: bytes = b""


def page(count: int) -> Behaviour:
    """Clients that request a file many times in one write."""
    return Behaviour(count, 300 * b"GET /assets/page.css HTTP/1.1\r\nHost: localhost\r\n\r\n")


def header(count: int) -> Behaviour:
    """Clients with an endless header."""
    return Behaviour(count, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x")


def body(count: int, path: str, content_type: str, length: int, key: str = "") -> Behaviour:
    """Clients with an endless body."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        f"Content-Type: {content_type}",
        f"Content-Length: {length}",
    ]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return Behaviour(count, "\r\n".join([*lines, "", ""]).encode(), b"\xff")


class SlowClient:
    """A connection that is reopened when the server closes it."""

    def __init__(self, port: int, behaviour: Behaviour) -> None:
        self._port = port
        self._behaviour = behaviour
        self._open()

    def _open(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", self._port))
        self.socket.setblocking(False)
        self._send(self._behaviour.begin)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            self.socket.send(data)

    def drip(self) -> None:
        """Send a byte; reconnect if the server has closed the connection, as an attacker would."""
        try:
            self._send(self._behaviour.drip or b"\r\n")
        except OSError:
            self.socket.close()
            self._open()


@contextlib.contextmanager
def slow_clients(port: int, behaviours: Sequence[Behaviour]) -> Iterator[list[SlowClient]]:
    """Run all clients at once for the duration of the block."""
    clients = [SlowClient(port, behaviour) for behaviour in behaviours for _ in range(behaviour.count)]
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(_PAUSE):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.drip()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield clients
    finally:
        stop.set()
        thread.join()
        for client in clients:
            client.socket.close()
