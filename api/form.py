"""Files of a `multipart/form-data` body (RFC 7578), as views of it.

`multipart` reads what stands in the parts' headers. Its parser, which copies every part three times, took
half of the time that a bulk upload of frames costs the API; Werkzeug's takes more.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from multipart import parse_content_disposition, parse_options_header
from werkzeug.exceptions import RequestEntityTooLarge

from api.problems import RequestError

_MOST_HEADER: Final = 4096  # bytes of one part's header
_LINE_END: Final = b"\r\n"
_FOLD: Final = re.compile(rb"\r\n[ \t]+")  # where a line of a header goes on in the next


@dataclass(frozen=True, slots=True)
class File:
    """A file part of a form: its name and media type as the client wrote them, and its bytes."""

    name: str
    media_type: str
    data: memoryview


def files_in(body: bytes | bytearray, boundary: str, *, most_parts: int) -> list[File]:
    """Return the file parts of a form, in order; other parts are left out.

    Args:
        body: the whole form; the files' bytes are views of it.
        boundary: as the request's header states it.
        most_parts: parts that are counted at all.

    Raises:
        RequestError: 400, it is no complete form.
        RequestEntityTooLarge: it has more parts, or a part's header is longer than 4 kB.
    """
    if not boundary:
        raise _broken("its header states no boundary")
    view = memoryview(body)
    found: list[File] = []
    for number, (header, content) in enumerate(_parts(body, boundary.encode())):
        if number == most_parts:
            raise RequestEntityTooLarge
        name, media_type = _described(header)
        if name is not None:
            found.append(File(name, media_type, view[content]))
    return found


def _parts(body: bytes | bytearray, boundary: bytes) -> Iterator[tuple[bytes, slice]]:
    """Yield each part's header, and where in `body` its content lies."""
    delimiter = _LINE_END + b"--" + boundary
    at = _begin(body, delimiter)
    while body[at : at + 2] != b"--":
        begin = _content(body, at)
        if body.startswith(delimiter[2:], begin):
            # Looked at as content, the next part would be this one's.
            raise RequestError(
                HTTPStatus.BAD_REQUEST,
                "A part of the form has no empty line after its header; add it, send it again.",
            )
        end = body.find(delimiter, begin)
        if end < 0:
            raise _broken("it breaks off within a part")
        yield bytes(body[at + 2 : begin - 4]), slice(begin, end)
        at = end + len(delimiter)


def _begin(body: bytes | bytearray, delimiter: bytes) -> int:
    """Return where the first boundary ends; it begins the body or a line."""
    at = body.find(delimiter[2:])
    if at < 0 or (at > 0 and not body.startswith(delimiter, at - 2)):
        raise _broken("its boundary does not begin it")
    return at + len(delimiter) - 2


def _content(body: bytes | bytearray, at: int) -> int:
    """Return where the content begins of the part whose boundary ends at `at`."""
    if body[at : at + 2] != _LINE_END:
        raise _broken("a boundary is not followed by a line's end")
    last = at + 2 + _MOST_HEADER + 4
    end = body.find(2 * _LINE_END, at, last)
    if end < 0 and len(body) >= last:
        raise RequestEntityTooLarge
    if end < 0:
        raise _broken("it breaks off within a part's header")
    return end + 4


def _described(header: bytes) -> tuple[str | None, str]:
    """Return the file name, None if the part is no file, and the media type that a part's header states."""
    kind, filename, media_type = "", None, ""
    try:
        lines = _FOLD.sub(b" ", header).decode().split("\r\n")
    except UnicodeDecodeError as error:
        raise _broken("a part's header is not UTF-8") from error
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise _broken("a line of a part's header has no colon")
        match name.strip().lower():
            case "content-disposition":
                kind, _, filename = parse_content_disposition(value.strip())
            case "content-type":
                media_type, _ = parse_options_header(value)
    if kind != "form-data":
        raise _broken("a part's header does not say that it is form-data")
    return filename, media_type


def _broken(what: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"The body is not a complete form: {what}; send it again.")
