"""Request bodies with images in them. Werkzeug's own readers copy and search the bytes several times over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final

from flask import request
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from api.encodings import decode
from api.form import File, files_in
from api.problems import RequestError
from api.sized import SizedBody

SILENT_SECONDS: Final = 20
"""Seconds without a byte of a body after which the upload is given up."""


def read_body(most: int) -> bytes | bytearray:
    """Return the whole body of the current request, without the encodings that its header declares.

    Args:
        most: bytes, encoded as well as decoded; one more is returned of a longer body that does not declare
            its length.

    Raises:
        ClientDisconnected: it broke off.
        RequestError: 408, nothing came for `SILENT_SECONDS`; others as `api.encodings.decode`.
    """
    with _in_time():
        body = _read_body(most)
    coding = request.environ.get("HTTP_CONTENT_ENCODING", "")
    transfer = request.environ.get("HTTP_CONTENT_TRANSFER_ENCODING", "")
    if (coding or transfer) and len(body) <= most:
        return decode(body, coding, transfer, most)
    return body


def _read_body(most: int) -> bytes | bytearray:
    declared = request.content_length
    if not declared:
        # Without a length the body is cut off at the bound: one byte more tells it apart.
        request.max_content_length = most + 1
        return request.get_data(cache=False)
    source = request.environ["wsgi.input"]
    data: bytes | bytearray = source.receive() if isinstance(source, SizedBody) else source.read(declared)
    if len(data) < declared:
        raise ClientDisconnected
    return data


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


@contextmanager
def _in_time() -> Iterator[None]:
    """Answer 408 when a read ends without a byte: the socket's own time-out, see `api.__main__`."""
    try:
        yield
    except (BlockingIOError, ClientDisconnected) as error:
        # Werkzeug's streams make the one of the other.
        if not isinstance(error, BlockingIOError) and not isinstance(error.__context__, BlockingIOError):
            raise
        raise RequestError(
            HTTPStatus.REQUEST_TIMEOUT,
            f"Nothing of the body came for {SILENT_SECONDS} seconds; send it again.",
            {"Connection": "close"},
        ) from error
