"""Encoded images: gzip, base64 text, data URIs.

This module decodes the encodings that a request's header declares, within the size limit of images. An
undeclared encoding is an error, which names it.
"""

from __future__ import annotations

import binascii
import re
import zlib
from typing import Final, TypeVar

from api.http.problem_types import ProblemType
from api.http.problems import RequestError
from core.formats.layout import ImageBytes
from core.image_header import sniff

PLAIN: Final = frozenset({"", "identity"})
"""Values of `Content-Encoding`, in lower case, for a body without an encoding."""

_IMAGE_STARTS: Final = frozenset(b"\xff\x89R")
"""First bytes of JPEG, PNG and WebP. Bytes that begin with one are not encoded."""

_GZIP: Final = b"\x1f\x8b"
_BASE64_STARTS: Final = (b"/9j/", b"iVBORw0KGgo", b"UklGR")  # of JPEG, PNG and WebP
_DATA_URI: Final = re.compile(rb"\s*data:([^,]*),", re.IGNORECASE)  # RFC 2397
_HEAD: Final = 256  # bytes that hold the beginning of a data URI, up to its data
_ANY_WINDOW: Final = zlib.MAX_WBITS | 32  # accepts headers of gzip and of zlib
_CODINGS: Final = {"Accept-Encoding": "gzip, deflate"}
_MAX_MEMBERS: Final = 64  # of gzip: each costs a copy of all members after it
_BAD_END: Final = "The body's {} data is incomplete, or other data follows it"

Data = TypeVar("Data", bound=ImageBytes)


def decode(
    data: bytes | bytearray, content_encoding: str, transfer_encoding: str, max_bytes: int
) -> bytes | bytearray:
    """Return a body without the encodings that its header declares.

    Args:
        data: the body as received.
        content_encoding: `Content-Encoding`, empty if there is none.
        transfer_encoding: `Content-Transfer-Encoding`, empty if there is none.
        max_bytes: limit of the result.

    Raises:
        RequestError: 400, the body is not encoded as declared; 413, the result is too long; 415, the encoding
            is unknown.
    """
    coding = content_encoding.strip().lower()
    if coding in {"gzip", "x-gzip", "deflate"}:
        data = _decompress(data, coding, max_bytes)
    elif coding not in PLAIN:
        raise RequestError(
            ProblemType.UNSUPPORTED_ENCODING,
            f"Content-Encoding {coding[:40]!r} is not supported; send gzip, deflate, or none.",
            _CODINGS,
        )
    return decode_transfer(data, transfer_encoding)


def decode_transfer(data: Data, transfer_encoding: str) -> Data | bytes:
    """Return a body or a form's part without its `Content-Transfer-Encoding` (RFC 2045, section 6).

    Raises:
        RequestError: 400, the body is not encoded as declared; 415, the encoding is unknown.
    """
    encoding = transfer_encoding.strip().lower()
    if encoding == "base64":
        return _from_base64(bytes(data))
    if encoding not in {"", "binary", "8bit", "7bit"}:
        raise RequestError(
            ProblemType.UNSUPPORTED_ENCODING,
            f"Content-Transfer-Encoding {encoding[:40]!r} is not supported; send base64 or binary.",
        )
    return data


def unwrap(data: ImageBytes, media_type: str) -> tuple[ImageBytes, str]:
    """Return the image in a data URI, with the URI's media type unless `media_type` is an image's.

    Bytes that are not a data URI are returned unchanged, with `media_type`.

    Raises:
        RequestError: 400, the URI's base64 is malformed; 415, the data URI is not base64, or the bytes are
            compressed or base64 text, but no header declares it.
    """
    if not data or data[0] in _IMAGE_STARTS:
        return data, media_type
    head = bytes(data[:_HEAD])
    if uri := _DATA_URI.match(head):
        kind, *parameters = uri[1].decode("latin-1").lower().split(";")
        if parameters[-1:] != ["base64"]:
            raise _unsupported("The image is a data URI without base64; send data:image/jpeg;base64,...")
        return _from_base64(bytes(data[uri.end() :])), media_type if _is_image_type(media_type) else kind
    if head.startswith(_GZIP):
        raise _unsupported("The bytes are compressed with gzip; send the image itself.")
    if head.lstrip().startswith(_BASE64_STARTS):
        raise _unsupported(
            "The bytes are base64 text; send the image itself, or add Content-Transfer-Encoding: base64."
        )
    return data, media_type


def holds_image(data: ImageBytes) -> bool:
    """Return whether the bytes begin like an image, a data URI of an image, or an image as base64 text."""
    head = bytes(data[:_HEAD])
    text = head.lstrip()
    return sniff(head) is not None or text.startswith(_BASE64_STARTS) or text[:11].lower() == b"data:image/"


def _decompress(data: bytes | bytearray, coding: str, max_bytes: int) -> bytes | bytearray:
    raw = coding == "deflate" and not _has_zlib_header(data)  # without zlib's header, as many clients send it
    window = -zlib.MAX_WBITS if raw else _ANY_WINDOW
    plain: bytes | bytearray = b""
    remaining: bytes | bytearray | memoryview = data
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(window)
        try:
            member = stream.decompress(remaining, max_bytes + 1 - len(plain))
        except zlib.error as error:
            if remaining is not data:
                raise _malformed(_BAD_END.format(coding)) from error
            raise _malformed(f"Content-Encoding says {coding}, but the body is not") from error
        plain = _joined(plain, member)
        if len(plain) > max_bytes:
            raise RequestError(
                ProblemType.BODY_TOO_LARGE,
                f"Decompressed, the body has more than {max_bytes:,} bytes; send less.",
            )
        if not stream.eof or (stream.unused_data and bytes(data[:2]) != _GZIP):
            raise _malformed(_BAD_END.format(coding))
        remaining = stream.unused_data
        if not remaining:
            return plain
    raise _malformed(f"The body's gzip data has more than {_MAX_MEMBERS} members")


def _joined(plain: bytes | bytearray, member: bytes) -> bytes | bytearray:
    """Return both joined, without a copy if `plain` is empty."""
    if not plain:
        return member
    plain = plain if isinstance(plain, bytearray) else bytearray(plain)
    plain += member
    return plain


def _has_zlib_header(data: bytes | bytearray) -> bool:
    """Return whether data begin with a header of zlib (RFC 1950) or gzip (RFC 1952)."""
    head = bytes(data[:2])
    return head == _GZIP or (
        len(head) == len(_GZIP) and head[0] & 0xF == zlib.DEFLATED and int.from_bytes(head) % 31 == 0
    )


def _from_base64(text: bytes) -> bytes:
    text = text.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _malformed(f"The base64 text cannot be decoded ({error})") from error


def _is_image_type(media_type: str) -> bool:
    return media_type.startswith("image/")


def _malformed(reason: str) -> RequestError:
    return RequestError(ProblemType.INVALID_ENCODING, f"{reason}; send it again.")


def _unsupported(detail: str) -> RequestError:
    return RequestError(ProblemType.UNSUPPORTED_ENCODING, detail)
