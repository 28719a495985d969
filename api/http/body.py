"""Request bodies. Werkzeug's own readers copy and search the bytes of images several times over."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from api.http.encodings import decode
from api.http.multipart import Form, parse_form
from core.errors import BusyError

MAX_JSON_BYTES: Final = 1024 * 1024
"""Maximum bytes of a body; uploads have limits of their own."""

JSON: Final = "json"
"""Kind of all bodies but uploads; the kind of an upload is its lane."""

RELEASE_BODY: Final = "wastestream.release_body"
"""Variable of the environment: a function that releases the memory of the body."""

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class BodyRule:
    """Rule for the bodies of a route: at most `max_bytes`, in the memory budget of their `kind`."""

    max_bytes: int
    kind: str


def accepts_body(max_bytes: int, kind: str) -> Callable[[View], View]:
    """Let a route accept request bodies. Bodies for other routes are discarded as they arrive."""

    def mark(view: View) -> View:
        view.body_rule = BodyRule(max_bytes, kind)  # type: ignore[attr-defined]
        return view

    return mark


class ReceivedBody(io.RawIOBase):
    """`wsgi.input` of a request that has been received completely."""

    def __init__(self, data: bytearray) -> None:
        super().__init__()
        self._data = data
        self._at = 0

    def take(self) -> bytearray:
        """Return the whole body and release it."""
        data, self._data = self._data, bytearray()
        return data

    def readable(self) -> bool:
        """See `io.IOBase.readable`."""
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # all that RawIOBase gives
        """See `io.RawIOBase.readinto`."""
        piece = memoryview(self._data)[self._at : self._at + len(buffer)]
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


class DiscardedBody(io.RawIOBase):
    """`wsgi.input` of a request whose body was discarded: its route accepts none, or it has no key."""

    def read(self, _size: int = -1, /) -> NoReturn:
        """Raise `BusyError`: the key became known only after its request was dispatched."""
        raise BusyError("The body was not read; send it again.")

    def readinto(self, _buffer: object, /) -> NoReturn:
        """Raise `BusyError`, as `read`."""
        self.read()


def read_body(max_bytes: int) -> bytes | bytearray:
    """Return the whole body of the current request, without the encodings that its header declares.

    Args:
        max_bytes: limit before and after decoding. Of a longer body without a declared length one byte more
            is returned.

    Raises:
        ClientDisconnected: the connection was closed before the end of the body.
        BusyError: the body was discarded.
        RequestError: as `api.http.encodings.decode`.
    """
    body = _received(max_bytes)
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    transfer = request.environ.get("HTTP_CONTENT_TRANSFER_ENCODING", "")
    if (coding or transfer) and len(body) <= max_bytes:
        return decode(body, coding, transfer, max_bytes)
    return body


def _received(max_bytes: int) -> bytes | bytearray:
    source = request.environ["wsgi.input"]
    if isinstance(source, ReceivedBody):
        return source.take()
    declared = request.content_length
    if not declared:
        # Werkzeug cuts a body without a length off at the limit: one byte more reveals that it is longer.
        request.max_content_length = max_bytes + 1
        return request.get_data(cache=False)
    data: bytes = source.read(declared)
    if len(data) < declared:
        raise ClientDisconnected
    return data


def release_body() -> None:
    """Release the memory of the current request's body, which the caller no longer holds."""
    request.environ.get(RELEASE_BODY, lambda: None)()


def read_form(max_bytes: int, *, max_parts: int) -> Form:
    """Return the files of the current request's form, and their metadata.

    Args:
        max_bytes: limit of the body.
        max_parts: limit of the parts.

    Raises:
        ClientDisconnected: the connection was closed before the end of the body.
        RequestError: 400, the body is not a form; others as `read_body`.
        RequestEntityTooLarge: the form has more bytes or parts, or a part's header is longer than 4 kB.
    """
    body = read_body(max_bytes)
    if len(body) > max_bytes:
        raise RequestEntityTooLarge
    return parse_form(body, request.mimetype_params.get("boundary", ""), max_parts=max_parts)
