"""Readers of request bodies: they keep a body up to a limit, or discard it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from api.http.body import DiscardedBody, ReceivedBody
from api.server.request import Chunks, Request


class BodyReader(ABC):
    """A body that is being received. `count` is the bytes of it received so far."""

    def __init__(self) -> None:
        self.count = 0

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether the whole body has been received."""

    def buffer(self) -> memoryview | None:
        """Return the memory for the next bytes, to be followed by `advance`; None if `feed` takes them."""
        return None

    def advance(self, count: int) -> None:
        """Count the bytes that were written into `buffer`."""
        raise NotImplementedError

    @abstractmethod
    def feed(self, data: bytearray) -> None:
        """Remove the bytes of the body from the beginning of `data`.

        Raises:
            MalformedRequestError: the body is malformed.
        """

    def wsgi_input(self) -> Any:
        """Return the body as `wsgi.input`; the reader keeps nothing."""
        return DiscardedBody()


class _ContentLengthReader(BodyReader):
    """A body of declared length, received into one piece of memory."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._data = bytearray(length)
        self._length = length

    @property
    def is_complete(self) -> bool:
        return self.count == self._length

    def buffer(self) -> memoryview:
        return memoryview(self._data)[self.count :]

    def advance(self, count: int) -> None:
        self.count += count

    def feed(self, data: bytearray) -> None:
        size = min(len(data), self._length - self.count)
        self._data[self.count : self.count + size] = memoryview(data)[:size]
        self.count += size
        del data[:size]

    def wsgi_input(self) -> ReceivedBody:
        data, self._data = self._data, bytearray()
        return ReceivedBody(data)


class _DiscardingReader(BodyReader):
    """A body of declared length that is not kept."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._length = length

    @property
    def is_complete(self) -> bool:
        return self.count == self._length

    def feed(self, data: bytearray) -> None:
        size = min(len(data), self._length - self.count)
        self.count += size
        del data[:size]


class _ChunkedReader(BodyReader):
    """A body in chunks. One of more than `max_bytes` is not kept."""

    def __init__(self, chunks: Chunks, max_bytes: int) -> None:
        super().__init__()
        self._chunks = chunks
        self._max_bytes = max_bytes
        self._data = bytearray()

    @property
    def is_complete(self) -> bool:
        return self._chunks.is_complete

    def feed(self, data: bytearray) -> None:
        pieces = self._chunks.feed(bytes(data))
        data.clear()
        for piece in pieces:
            self.count += len(piece)
            if self.count <= self._max_bytes:
                self._data += piece
            elif self._data:
                self._data = bytearray()

    def wsgi_input(self) -> Any:
        if self.count > self._max_bytes:
            return DiscardedBody()
        data, self._data = self._data, bytearray()
        return ReceivedBody(data)


def body_reader(request: Request, max_bytes: int) -> BodyReader:
    """Return a reader of a request's body; with `max_bytes` 0 it discards the body."""
    if request.chunks is not None:
        return _ChunkedReader(request.chunks, max_bytes)
    return _ContentLengthReader(request.length) if max_bytes else _DiscardingReader(request.length)
