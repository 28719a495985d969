"""Connections to a real API process: HTTP's rules for them, and the server's threads and sockets."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from core.redis.job_store import JobStore
from core.settings import Settings
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import small_api

THREADS = 6


@pytest.fixture
def port(settings: Settings, tmp_path: Path) -> Iterator[int]:
    """The port of an API process with few threads."""
    with small_api(environment_of(settings), tmp_path, places=THREADS - 2, waiting=2) as port:
        yield port


@pytest.fixture
def connection(port: int) -> Iterator[HTTPConnection]:
    """A kept connection."""
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20)) as opened:
        yield opened


def answer(
    connection: HTTPConnection, method: str, path: str, body: bytes | None = None
) -> tuple[int, bytes]:
    """Status and body of an answer."""
    connection.request(method, path, body, {"Content-Type": "image/jpeg"})
    with connection.getresponse() as response:
        return response.status, response.read()


def upload_request(data: bytes, *headers: bytes) -> bytes:
    """The bytes of an upload's header."""
    fixed = (b"Host: localhost", b"Content-Type: image/jpeg", b"Content-Length: %d" % len(data))
    return b"\r\n".join((b"POST /v1/images HTTP/1.1", *fixed, *headers)) + b"\r\n\r\n"


def test_calls_follow_each_other_on_a_connection(connection: HTTPConnection, jobs: JobStore) -> None:
    """Answers with a body and without, with a file, with an error, and calls whose body nobody reads."""
    for _ in range(2):
        assert answer(connection, "POST", "/v1/images/", jpeg())[0] == 202
        assert answer(connection, "HEAD", "/livez") == (200, b"")
        assert b"<html" in answer(connection, "GET", "/")[1]
        assert answer(connection, "POST", "/livez", b"x" * 20_000)[0] == 405
        assert answer(connection, "POST", "/v1/images", b"")[0] == 400
        assert answer(connection, "GET", "/nowhere")[0] == 404
    assert jobs.pending() == 2


def test_calls_may_be_sent_before_the_answers(port: int, jobs: JobStore) -> None:
    """Several in one piece (pipelining, RFC 9112, 9.3.2): each is read up to its own end."""
    data = jpeg()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(3 * (upload_request(data) + data) + upload_request(data, b"Connection: close") + data)
        received = b"".join(iter(lambda: client.recv(65536), b""))
    assert received.count(b"HTTP/1.1 202") == 4
    assert jobs.pending() == 4


def test_a_client_may_ask_before_it_sends(port: int, jobs: JobStore) -> None:
    """`Expect: 100-continue`, as curl says with a large body."""
    data = jpeg()
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(upload_request(data, b"Expect: 100-continue", b"Connection: close"))
        assert client.recv(65536).startswith(b"HTTP/1.1 100")
        client.sendall(data)
        assert client.recv(65536).startswith(b"HTTP/1.1 202")
    assert jobs.pending() == 1


def test_one_client_more_than_threads_is_served(port: int) -> None:
    """Threads that wait for the next call of a connection do not keep another from its first."""
    with contextlib.ExitStack() as opened:
        for _ in range(THREADS + 2):
            connection = opened.enter_context(
                contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=20))
            )
            assert answer(connection, "GET", "/livez")[0] == 200
