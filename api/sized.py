"""Bodies of declared length, received into one piece of memory.

gunicorn's own reader takes them through three buffers, one copy each.
"""

from __future__ import annotations

import io
import socket
from typing import Final

from gunicorn.http.body import Body, LengthReader

_FIRST: Final = 1024 * 1024
"""Bytes of memory for a body of which little has come yet: the length that it declares is only a promise."""

_GROWTH: Final = 16
"""How many times as much memory as is filled the next piece has, at most."""


class SizedBody(Body):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's body of declared length, which can also be received as a whole."""

    buf: io.BytesIO  # what was read ahead

    def __init__(self, reader: LengthReader, connection: socket.socket) -> None:
        super().__init__(reader)
        self._connection = connection

    @property
    def is_read(self) -> bool:
        """Whether all of it has been received, and what follows on the connection is the next request."""
        return not self.reader.length and not self.failed

    def receive(self) -> bytearray:
        """Return all that was not read yet; less than was declared if the client broke off.

        Raises:
            OSError: of the connection; `BlockingIOError` when nothing came for the socket's own time-out.
        """
        try:
            return self._receive(self._take_early())
        except OSError:
            self.failed = True  # So gunicorn serves no other request on this connection.
            raise

    def _take_early(self) -> bytearray:
        """Return what gunicorn has received of the body: with the request's header, or read ahead."""
        early: bytes = self.reader.unreader.take_buffered()
        mine = early[: self.reader.length]
        self.reader.unreader.unread(early[len(mine) :])  # the next request's
        self.reader.length -= len(mine)
        ahead, self.buf = self.buf.getvalue(), io.BytesIO()
        return bytearray(ahead + mine)

    def _receive(self, data: bytearray) -> bytearray:
        """Return `data` with the rest."""
        filled = len(data)
        total = filled + self.reader.length
        while filled < total:
            if filled == len(data):
                data = _enlarged(data, total)
            with memoryview(data) as room:
                received = self._connection.recv_into(room[filled:])
            if not received:
                break
            filled += received
            self.reader.length -= received
        del data[filled:]
        return data


def _enlarged(data: bytearray, most: int) -> bytearray:
    larger = bytearray(min(most, max(_FIRST, _GROWTH * len(data))))
    larger[: len(data)] = data
    return larger


def sized(body: Body, connection: socket.socket) -> Body:
    """Return a request's body as a `SizedBody` if its length was declared, or else as it is."""
    reader = body.reader
    return SizedBody(reader, connection) if isinstance(reader, LengthReader) and reader.length else body
