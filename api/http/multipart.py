"""Files of a `multipart/form-data` body (RFC 7578), as views of it.

The library `multipart` parses the parts' headers. Its parser of whole forms copies every part three times,
which took half of the API's time for a bulk upload of frames; Werkzeug's takes longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from multipart import parse_content_disposition, parse_options_header
from werkzeug.exceptions import RequestEntityTooLarge

from api.http.encodings import decode_transfer, holds_image, unwrap
from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from core.formats.layout import ImageBytes

_MAX_HEADER: Final = 4096  # bytes of one part's header
_LINE_END: Final = b"\r\n"
_FIELD_TYPE: Final = re.compile(r"(text/.*|application/(.*\+)?(json|xml|x-www-form-urlencoded))?")
"""Media types of text fields of the form: parts without a file name."""

_EXTENDED_NAME: Final = re.compile(r";\s*filename\*\s*=\s*\"?([\w-]*)'[\w-]*'([^;\"\s]*)", re.IGNORECASE)
_FOLD: Final = re.compile(rb"\r\n[ \t]+")  # a folded line of a header


METADATA: Final = "metadata"
"""Name of the part that describes the files."""


@dataclass(frozen=True, slots=True)
class File:
    """A file part of a form: the fields of its header as the client wrote them, and its bytes.

    `name` is the name of the file, or of the field if the file has none.
    """

    name: str
    media_type: str
    data: memoryview
    transfer_encoding: str = ""
    content_encoding: str = ""

    def image(self) -> tuple[ImageBytes, str]:
        """Return the bytes without the encoding that the header declares, and their media type.

        Raises:
            RequestError: 400, 415; see `api.http.encodings`.
        """
        encoded = self.content_encoding or self.transfer_encoding
        return unwrap(self._decoded() if encoded else self.data, self.media_type)

    def _decoded(self) -> ImageBytes:
        coding = self.content_encoding.strip()
        if coding.lower() not in {"", "identity"}:
            raise RequestError(
                ProblemType.UNSUPPORTED_ENCODING,
                f"Content-Encoding {coding[:40]!r} is not supported in a form's part; send the image itself.",
            )
        return decode_transfer(self.data, self.transfer_encoding)


@dataclass(frozen=True, slots=True)
class Form:
    """The file parts of a form, in order, and the content of the part `metadata`; None without one."""

    files: list[File]
    metadata: memoryview | None = None


def parse_form(body: bytes | bytearray, boundary: str, *, max_parts: int) -> Form:
    """Return the files of a form, and their metadata.

    A part is a file if it has a file name, a media type that fields do not have, or the bytes of an image. A
    part named `metadata` that is no image describes the files; it comes first. Other parts are errors.

    Args:
        body: the whole form; the returned files are views of it.
        boundary: from the request's header.
        max_parts: limit of the parts.

    Raises:
        RequestError: 400, the form is incomplete or malformed, has a text field, or its part `metadata` is
            not the first.
        RequestEntityTooLarge: the form has more parts, or a part's header is longer than 4 kB.
    """
    if not boundary:
        raise _malformed("its header declares no boundary")
    view = memoryview(body)
    form = Form([])
    for number, (header, content) in enumerate(_parts(body, boundary.encode())):
        if number == max_parts:
            raise RequestEntityTooLarge
        field, file = _part(header, view[content])
        if field == METADATA and not holds_image(view[content]):
            if number:
                raise RequestError(
                    ProblemType.INVALID_BODY,
                    "The part metadata is not the form's first, or there are two; send one, as the first.",
                )
            form = Form([], view[content])
        elif file is None:
            raise RequestError(
                ProblemType.INVALID_BODY,
                f"The form has a text field {(field or '')[:80]!r}, which this call does not take; send "
                "cameras and times in header fields or in the part metadata.",
            )
        else:
            form.files.append(file)
    return form


def _parts(body: bytes | bytearray, boundary: bytes) -> Iterator[tuple[bytes, slice]]:
    """Yield each part's header, and the slice of `body` with its content."""
    delimiter = _LINE_END + b"--" + boundary
    at = _begin(body, delimiter)
    while body[at : at + 2] != b"--":
        begin = _content(body, at)
        if body.startswith(delimiter[2:], begin):
            # Otherwise the next part would be read as the content of this one.
            raise RequestError(
                ProblemType.INVALID_BODY,
                "A part of the form has no empty line after its header; add it, send it again.",
            )
        end = body.find(delimiter, begin)
        if end < 0:
            raise _malformed("it ends within a part")
        yield bytes(body[at + 2 : begin - 4]), slice(begin, end)
        at = end + len(delimiter)


def _begin(body: bytes | bytearray, delimiter: bytes) -> int:
    """Return the end of the first boundary, which begins the body or a line."""
    at = body.find(delimiter[2:])
    if at < 0 or (at > 0 and not body.startswith(delimiter, at - 2)):
        raise _malformed("it does not begin with its boundary")
    return at + len(delimiter) - 2


def _content(body: bytes | bytearray, at: int) -> int:
    """Return the beginning of the content of the part whose boundary ends at `at`."""
    if body[at : at + 2] != _LINE_END:
        raise _malformed("a boundary is not followed by a line break")
    last = at + 2 + _MAX_HEADER + 4
    end = body.find(2 * _LINE_END, at, last)
    if end < 0 and len(body) >= last:
        raise RequestEntityTooLarge
    if end < 0:
        raise _malformed("it ends within a part's header")
    return end + 4


def _part(header: bytes, data: memoryview) -> tuple[str | None, File | None]:
    """Return the name of a part and its file; None for a field, which is text without a file name."""
    kind, field, name = "", None, None
    media_type = transfer_encoding = content_encoding = ""
    for line in _lines(header):
        title, colon, value = line.partition(":")
        if not colon:
            raise _malformed("a line of a part's header has no colon")
        match title.strip().lower():
            case "content-disposition":
                kind, field, name = parse_content_disposition(value.strip())
                if name is None:
                    name = _extended_name(value)
            case "content-type":
                media_type, _ = parse_options_header(value)
            case "content-transfer-encoding":
                transfer_encoding = value
            case "content-encoding":
                content_encoding = value
    if kind != "form-data":
        raise _malformed("a part's Content-Disposition is not form-data")
    if name is None and _FIELD_TYPE.fullmatch(media_type) and not holds_image(data):
        return field, None
    shown = (field or "") if name is None else name
    return field, File(shown, media_type, data, transfer_encoding, content_encoding)


def _lines(header: bytes) -> list[str]:
    """Return the lines of a part's header: UTF-8, or Latin-1, in which old systems write file names."""
    header = _FOLD.sub(b" ", header)
    try:
        return header.decode().split("\r\n")
    except UnicodeDecodeError:
        return header.decode("latin-1").split("\r\n")


def _extended_name(disposition: str) -> str | None:
    """Return the value of `filename*` (RFC 8187). RFC 7578 forbids it, but some clients send nothing else."""
    match = _EXTENDED_NAME.search(disposition)
    if match is None:
        return None
    charset, text = match.groups()
    return unquote(text, "latin-1" if charset.lower() == "iso-8859-1" else "utf-8")


def _malformed(reason: str) -> RequestError:
    return RequestError(
        ProblemType.INVALID_BODY, f"The body is not a complete form: {reason}; send it again."
    )
