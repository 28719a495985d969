"""Request bodies with images in them. Werkzeug's own readers copy and search the bytes several times over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from flask import request
from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from api.problems import RequestError

SILENT_SECONDS: Final = 20
"""Seconds without a byte of a body after which the upload is given up."""

_PIECE: Final = 1024 * 1024  # bytes read at once


@dataclass(frozen=True, slots=True)
class File:
    """A file part of a form: its name and media type as the client wrote them, and its bytes."""

    name: str
    media_type: str
    data: bytes


def read_body(most: int) -> bytes:
    """Return the whole body of the current request.

    Args:
        most: bytes; one more is returned of a longer body that does not declare its length.

    Raises:
        ClientDisconnected: it broke off.
        RequestError: 408, nothing came for `SILENT_SECONDS`.
    """
    with _in_time():
        return _read_body(most)


def _read_body(most: int) -> bytes:
    declared = request.content_length
    if not declared:
        # Without a length the body is cut off at the bound: one byte more tells it apart.
        request.max_content_length = most + 1
        return request.get_data(cache=False)
    data: bytes = request.environ["wsgi.input"].read(declared)
    if len(data) < declared:
        raise ClientDisconnected
    return data


def read_files(most: int, *, most_parts: int) -> list[File]:
    """Return the file parts of the current request's form, in order; other parts are left out.

    Args:
        most: bytes of the body.
        most_parts: parts that are counted at all.

    Raises:
        RequestError: 400, it is no form; 408, nothing came for `SILENT_SECONDS`.
        RequestEntityTooLarge: it has more bytes or parts, or a part's header is longer than 4 kB.
    """
    request.max_content_length = most
    found: list[tuple[MultipartSegment, list[bytes]]] = []
    try:
        with (
            _in_time(),
            PushMultipartParser(
                request.mimetype_params.get("boundary", ""), max_segment_count=most_parts
            ) as parser,
        ):
            while not parser.closed:
                for event in parser.parse(request.stream.read(_PIECE)):
                    if isinstance(event, MultipartSegment):
                        found.append((event, []))
                    elif event:
                        found[-1][1].append(event)
    except ParserLimitReached as error:
        raise RequestEntityTooLarge from error
    except MultipartError as error:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"The body is not a complete form ({error}); send it again."
        ) from error
    files = [
        File(part.filename, part.content_type or "", b"".join(pieces))
        for part, pieces in found
        if part.filename is not None
    ]
    if any(file.data.startswith(b"--" + parser.boundary) for file in files):
        # A part without the empty line after its header: to the parser the next part is its content.
        raise RequestError(
            HTTPStatus.BAD_REQUEST,
            "A part of the form has no empty line after its header; add it, send it again.",
        )
    return files


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
