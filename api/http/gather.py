"""Bodies on their way in: kept up to a bound, or dropped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from api.http.body import DroppedBody, ReceivedBody
from api.http.request import Chunks, Request


class Gathering(ABC):
    """A body that is being received. `count` is how many bytes of it have come."""

    def __init__(self) -> None:
        self.count = 0

    @property
    @abstractmethod
    def is_complete(self) -> bool:
        """Whether all of it has come."""

    def room(self) -> memoryview | None:
        """Return where what comes next is to be put, followed by `filled`; None if `feed` takes it."""
        return None

    def filled(self, count: int) -> None:
        """Count what was put into `room`."""
        raise NotImplementedError

    @abstractmethod
    def feed(self, data: bytearray) -> None:
        """Take what belongs to the body from the beginning of `data`.

        Raises:
            MalformedRequestError: it is malformed.
        """

    def input(self) -> Any:
        """Return the body as `wsgi.input`; nothing is kept."""
        return DroppedBody()


class _Sized(Gathering):
    """A body of declared length, received into one piece of memory."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self._data = bytearray(length)
        self._length = length

    @property
    def is_complete(self) -> bool:
        return self.count == self._length

    def room(self) -> memoryview:
        return memoryview(self._data)[self.count :]

    def filled(self, count: int) -> None:
        self.count += count

    def feed(self, data: bytearray) -> None:
        size = min(len(data), self._length - self.count)
        self._data[self.count : self.count + size] = memoryview(data)[:size]
        self.count += size
        del data[:size]

    def input(self) -> ReceivedBody:
        data, self._data = self._data, bytearray()
        return ReceivedBody(data)


class _Dropped(Gathering):
    """A body of declared length of which nothing is kept."""

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


class _Chunked(Gathering):
    """A body in chunks, of which at most so many bytes are kept; of a longer one nothing is."""

    def __init__(self, chunks: Chunks, most: int) -> None:
        super().__init__()
        self._chunks = chunks
        self._most = most
        self._data = bytearray()

    @property
    def is_complete(self) -> bool:
        return self._chunks.is_complete

    def feed(self, data: bytearray) -> None:
        pieces = self._chunks.feed(bytes(data))
        data.clear()
        for piece in pieces:
            self.count += len(piece)
            if self.count <= self._most:
                self._data += piece
            elif self._data:
                self._data = bytearray()

    def input(self) -> Any:
        if self.count > self._most:
            return DroppedBody()
        data, self._data = self._data, bytearray()
        return ReceivedBody(data)


def gather(request: Request, most: int) -> Gathering:
    """Begin to receive a request's body; with `most` 0 to drop it."""
    if request.chunks is not None:
        return _Chunked(request.chunks, most)
    return _Sized(request.length) if most else _Dropped(request.length)
