"""Bodies of declared length, received into one piece of memory.

gunicorn's own reader takes them through three buffers, one copy each.
"""

from __future__ import annotations

import io
import socket
from typing import Final

from gunicorn.http.body import Body, LengthReader

_FIRST: Final = 16 * 1024 * 1024
"""Bytes taken at once for a body that may have more; only what comes makes it grow beyond."""


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
        early = self._take_early()
        data = bytearray(min(len(early) + self.reader.length, _FIRST))
        data[: len(early)] = early
        try:
            self._fill(data, len(early))
        except OSError:
            self.failed = True  # So gunicorn serves no other request on this connection.
            raise
        return data

    def _take_early(self) -> bytes:
        """Return what gunicorn has received of the body: with the request's header, or read ahead."""
        early: bytes = self.reader.unreader.take_buffered()
        mine = early[: self.reader.length]
        self.reader.unreader.unread(early[len(mine) :])  # the next request's
        self.reader.length -= len(mine)
        ahead, self.buf = self.buf.getvalue(), io.BytesIO()
        return bytes(ahead + mine)

    def _fill(self, data: bytearray, filled: int) -> None:
        """Receive the rest, and give `data` the length of what came."""
        while left := self.reader.length:
            if filled == len(data):
                data.extend(bytes(min(filled, left)))
            with memoryview(data) as room:
                received = self._connection.recv_into(room[filled:])
            if not received:
                break
            filled += received
            self.reader.length -= received
        del data[filled:]


def sized(body: Body, connection: socket.socket) -> Body:
    """Return a request's body as a `SizedBody` if its length was declared, or else as it is."""
    reader = body.reader
    return SizedBody(reader, connection) if isinstance(reader, LengthReader) and reader.length else body
