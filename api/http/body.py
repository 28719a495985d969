"""Request bodies. Werkzeug's own readers copy and search the bytes of images several times over."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NoReturn, TypeVar

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from api.http.encodings import decode
from api.http.multipart import File, files_in
from api.http.problems import RequestError
from core.errors import BusyError

MAX_JSON_BYTES: Final = 1024 * 1024
"""Largest body of a request that is no upload; those have limits of their own."""

JSON: Final = "json"
"""The kind of body that is no upload; kinds of uploads are their lanes."""

DONE: Final = "wastestream.body_done"
"""Variable of the environment: to be called when the body is no longer needed."""

View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class BodyRule:
    """What a route takes: bodies of at most `most` bytes, which share memory with others of their `kind`."""

    most: int
    kind: str


def takes(most: int, kind: str) -> Callable[[View], View]:
    """Let a route have the bodies of its requests; those of all others are dropped, never gathered."""

    def mark(view: View) -> View:
        view.takes = BodyRule(most, kind)  # type: ignore[attr-defined]
        return view

    return mark


class ReceivedBody(io.RawIOBase):
    """`wsgi.input` of a request that has come as a whole."""

    def __init__(self, data: bytearray) -> None:
        super().__init__()
        self._data = data
        self._at = 0

    def take(self) -> bytearray:
        """Return all of it, and keep nothing."""
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


class DroppedBody(io.RawIOBase):
    """`wsgi.input` of a request whose body was dropped: the route needs none, or its sender has no key."""

    def read(self, _size: int = -1, /) -> NoReturn:
        """Raise `BusyError`: who sent it has become known in this very moment."""
        raise BusyError("The body was not read; send it again.")


def read_body(most: int) -> bytes | bytearray:
    """Return the whole body of the current request, without the encodings that its header declares.

    Args:
        most: bytes, encoded as well as decoded; one more is returned of a longer body that does not declare
            its length.

    Raises:
        ClientDisconnected: it broke off.
        BusyError: it was dropped.
        RequestError: as `api.http.encodings.decode`.
    """
    body = _received(most)
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    transfer = request.environ.get("HTTP_CONTENT_TRANSFER_ENCODING", "")
    if (coding or transfer) and len(body) <= most:
        return decode(body, coding, transfer, most)
    return body


def _received(most: int) -> bytes | bytearray:
    source = request.environ["wsgi.input"]
    if isinstance(source, ReceivedBody):
        return source.take()
    declared = request.content_length
    if not declared:
        # Without a length the body is cut off at the bound: one byte more tells it apart.
        request.max_content_length = most + 1
        return request.get_data(cache=False)
    data: bytes = source.read(declared)
    if len(data) < declared:
        raise ClientDisconnected
    return data


def body_done() -> None:
    """Let others have the memory of the current request's body, which nothing here holds any longer."""
    request.environ.get(DONE, lambda: None)()


def read_json(most: int = MAX_JSON_BYTES) -> Any:
    """Return the current request's body as JSON; None if it is none.

    Args:
        most: bytes of the body.

    Raises:
        RequestError: 400, it is nested more deeply than anything that is asked for here.
        RequestEntityTooLarge: it has more bytes.
    """
    request.max_content_length = most
    try:
        return request.get_json(silent=True)
    except RecursionError as error:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, "The JSON is nested too deeply; send what docs/api.md shows."
        ) from error


def read_files(most: int, *, most_parts: int) -> list[File]:
    """Return the file parts of the current request's form, in order; other parts are left out.

    Args:
        most: bytes of the body.
        most_parts: parts that are counted at all.

    Raises:
        ClientDisconnected: it broke off.
        RequestError: 400, it is no form; others as `read_body`.
        RequestEntityTooLarge: it has more bytes or parts, or a part's header is longer than 4 kB.
    """
    body = read_body(most)
    if len(body) > most:
        raise RequestEntityTooLarge
    return files_in(body, request.mimetype_params.get("boundary", ""), most_parts=most_parts)
