"""Clients that hold what they can get: connections, places for bodies, answers that they do not read."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

_PAUSE: Final = 0.5  # seconds between two bytes of a client that trickles


@dataclass(frozen=True)
class Kind:
    """`count` clients that send `begin`, then a byte `drip` now and then, and never read."""

    count: int
    begin: bytes
    drip: bytes = b""


def page(count: int) -> Kind:
    """Clients that ask for a file again and again in one piece."""
    return Kind(count, 300 * b"GET /assets/page.js HTTP/1.1\r\nHost: localhost\r\n\r\n")


def header(count: int) -> Kind:
    """Clients whose header does not end."""
    return Kind(count, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"x")


def body(count: int, path: str, kind: str, length: int, key: str = "") -> Kind:
    """Clients whose body does not end."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {length}"]
    lines += [f"Authorization: Bearer {key}"] if key else []
    return Kind(count, "\r\n".join([*lines, "", ""]).encode(), b"\xff")


class SlowClient:
    """A connection, which is opened again if the server closes it."""

    def __init__(self, port: int, kind: Kind) -> None:
        self._port = port
        self._kind = kind
        self._open()

    def _open(self) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(5)
        self.socket.connect(("127.0.0.1", self._port))
        self.socket.setblocking(False)
        self._send(self._kind.begin)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            self.socket.send(data)

    def go_on(self) -> None:
        """Send a byte; begin again if the server has closed the connection, as an attacker would."""
        try:
            self._send(self._kind.drip or b"\r\n")
        except OSError:
            self.socket.close()
            self._open()


@contextlib.contextmanager
def slow_clients(port: int, kinds: Sequence[Kind]) -> Iterator[list[SlowClient]]:
    """Have all of them at once, as long as the block runs."""
    clients = [SlowClient(port, kind) for kind in kinds for _ in range(kind.count)]
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(_PAUSE):
            for client in clients:
                with contextlib.suppress(OSError):
                    client.go_on()

    going_on = threading.Thread(target=go_on)
    going_on.start()
    try:
        yield clients
    finally:
        stop.set()
        going_on.join()
        for client in clients:
            client.socket.close()
