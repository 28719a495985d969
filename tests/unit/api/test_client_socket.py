"""api.client_socket: answers in one piece."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.client_socket import ClientSocket


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    """The server's socket and the client's."""
    accepted, client = socket.socketpair()
    accepted.setblocking(False)
    with ClientSocket(accepted) as server, client:
        client.settimeout(5)
        yield server, client


def nothing_came(client: socket.socket) -> bool:
    """Whether there is nothing to receive."""
    return not select.select([client], [], [], 0)[0]


def test_it_takes_over_the_connection(pair: tuple[ClientSocket, socket.socket]) -> None:
    """Non-blocking as it was accepted, and made blocking when that is asked for."""
    server, client = pair
    assert server.gettimeout() == 0.0
    with pytest.raises(BlockingIOError):
        server.recv(1)
    server.setblocking(True)
    assert server.gettimeout() is None
    client.sendall(b"x")
    assert server.recv(1) == b"x"
    server.settimeout(0.01)
    with pytest.raises(TimeoutError):
        server.recv(1)


def test_a_header_goes_with_the_body(pair: tuple[ClientSocket, socket.socket]) -> None:
    """It waits for the body's beginning; what comes after that waits for nothing."""
    server, client = pair
    server.hold()
    server.sendall(b"header ")
    assert nothing_came(client)
    server.sendall(b"body ")
    assert client.recv(100) == b"header body "
    server.sendall(b"more")
    assert client.recv(100) == b"more"


def test_a_header_without_a_body_goes_when_the_answer_ends(pair: tuple[ClientSocket, socket.socket]) -> None:
    """And only once."""
    server, client = pair
    server.hold()
    server.sendall(b"header")
    server.flush()
    server.flush()
    assert client.recv(100) == b"header"
    server.sendall(b"next")
    assert client.recv(100) == b"next"


def test_what_was_dropped_is_not_sent(pair: tuple[ClientSocket, socket.socket]) -> None:
    """Another answer takes its place."""
    server, client = pair
    server.hold()
    server.sendall(b"half an answer")
    server.drop()
    server.sendall(b"an error")
    assert client.recv(100) == b"an error"


def test_a_file_follows_its_header(pair: tuple[ClientSocket, socket.socket], tmp_path: Path) -> None:
    """Though it is sent by the system itself."""
    server, client = pair
    server.setblocking(True)
    path = tmp_path / "file"
    path.write_bytes(b"content")
    server.hold()
    server.sendall(b"header ")
    with path.open("rb") as file:
        server.sendfile(file)
    assert client.recv(100) == b"header content"
