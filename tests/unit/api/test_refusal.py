"""api.refusal: what a refused request still sends is dropped, within bounds."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from gunicorn.http.errors import InvalidChunkSize

from api.refusal import drop_body


class _Body(io.RawIOBase):
    """A body that never ends, or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        """Return as many bytes as asked for."""
        if self._failure is not None:
            raise self._failure
        self.given += size
        return bytes(size)


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    """A socket with a timeout of its own."""
    ours, theirs = socket.socketpair()
    ours.settimeout(75)
    with ours, theirs:
        yield ours


def _environ(connection: socket.socket, body: Any) -> dict[str, Any]:
    return {"gunicorn.socket": connection, "wsgi.input": body}


@pytest.mark.parametrize("most", [64 * 1024, 16 * 1024 * 1024])
def test_no_more_is_read_than_may_be(connection: socket.socket, most: int) -> None:
    """The connection keeps its timeout."""
    body = _Body()
    drop_body(_environ(connection, body), most)
    assert body.given == most
    assert connection.gettimeout() == 75


@pytest.mark.parametrize("failure", [TimeoutError(), ConnectionResetError(), InvalidChunkSize(b"x")])
def test_a_body_that_fails_does_not_hide_the_answer(connection: socket.socket, failure: Exception) -> None:
    """Nothing is raised in the place of the refusal."""
    drop_body(_environ(connection, _Body(failure)), 1)
    assert connection.gettimeout() == 75


def test_the_timeout_is_put_back_whatever_happens(connection: socket.socket) -> None:
    """Also when something unforeseen is raised."""
    with pytest.raises(ZeroDivisionError):
        drop_body(_environ(connection, _Body(ZeroDivisionError())), 1)
    assert connection.gettimeout() == 75
