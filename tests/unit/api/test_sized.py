"""api.sized: bodies received as a whole."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from gunicorn.http.body import Body, ChunkedReader, LengthReader
from gunicorn.http.unreader import SocketUnreader

from api import sized as module
from api.sized import SizedBody, sized

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A client's socket and the server's."""
    client, server = socket.socketpair()
    with client, server:
        yield client, server


def body_of(server: socket.socket, length: int, early: bytes = b"") -> SizedBody:
    """The body of a request whose header has been read, and `early` with it."""
    unreader = SocketUnreader(server)
    unreader.unread(early)
    body = sized(Body(LengthReader(unreader, length)), server)
    assert isinstance(body, SizedBody)
    return body


def send(client: socket.socket, *pieces: bytes) -> threading.Thread:
    """Send from another thread, as much as does not fit the socket's buffer."""
    sender = threading.Thread(target=client.sendall, args=(b"".join(pieces),))
    sender.start()
    return sender


@pytest.mark.parametrize("early", [0, 1, 8000])
def test_a_body_is_received_whole(pair: Pair, early: int) -> None:
    """With what came together with the header; the next request stays where it is."""
    client, server = pair
    data = bytes(range(256)) * 4000
    sender = send(client, data[early:], b"GET / HTTP/1.1\r\n")
    body = body_of(server, len(data), data[:early])
    assert body.receive() == data
    assert body.receive() == body.read(10) == b""
    sender.join()
    assert server.recv(100) == b"GET / HTTP/1.1\r\n"


def test_what_belongs_to_the_next_request_is_left(pair: Pair) -> None:
    """It may have come in the same piece as this one's body."""
    body = body_of(pair[1], 3, b"abcGET / HTTP/1.1")
    assert body.receive() == b"abc"
    assert body.reader.unreader.read() == b"GET / HTTP/1.1"


def test_a_large_body_takes_memory_as_it_comes(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its declared length is only a promise."""
    monkeypatch.setattr(module, "_FIRST", 10)
    client, server = pair
    data = bytes(range(256)) * 40
    sender = send(client, data)
    assert body_of(server, len(data)).receive() == data
    sender.join()
    client.sendall(b"abc")
    client.shutdown(socket.SHUT_WR)
    assert body_of(server, 10**12).receive() == b"abc"


def test_a_body_that_breaks_off_is_short(pair: Pair) -> None:
    """Its reader has to compare lengths; the rest is not waited for again."""
    client, server = pair
    client.sendall(b"abc")
    client.shutdown(socket.SHUT_WR)
    body = body_of(server, 10)
    assert body.receive() == b"abc"
    assert body.read(10) == b""


def test_a_silent_client_fails_the_body(pair: Pair) -> None:
    """By the socket's own time-out; then gunicorn serves nothing else on the connection."""
    client, server = pair
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))
    client.sendall(b"abc")
    body = body_of(server, 10)
    with pytest.raises(BlockingIOError):
        body.receive()
    assert body.failed


def test_a_body_can_still_be_read_in_pieces(pair: Pair) -> None:
    """As gunicorn and Flask do for all other requests; what is left can then be received."""
    client, server = pair
    client.sendall(b"abcdefgh")
    body = body_of(server, 8)
    assert body.read(2) == b"ab"
    assert body.receive() == b"cdefgh"


def test_only_bodies_of_declared_length_are_sized(pair: Pair) -> None:
    """Chunked ones, and requests without a body, stay with gunicorn's."""
    unreader = SocketUnreader(pair[1])
    for body in (Body(LengthReader(unreader, 0)), Body(ChunkedReader(None, unreader))):
        assert sized(body, pair[1]) is body
