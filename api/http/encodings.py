"""Images that come encoded: with gzip, as base64 text, as a data URI.

What a request's header declares is undone here, within the same limits of bytes as any image; what nobody
declared is named in the refusal.
"""

from __future__ import annotations

import binascii
import re
import zlib
from http import HTTPStatus
from typing import Final, TypeVar

from api.http.problems import RequestError
from core.formats.layout import ImageBytes
from core.image_header import sniff

PLAIN: Final = frozenset({"", "identity"})
"""Values of `Content-Encoding`, in small letters, that say that nothing was done to the bytes."""

_IMAGE_STARTS: Final = frozenset(b"\xff\x89R")
"""First bytes of JPEG, PNG and WebP: what begins with one is not encoded, and is not looked at further."""

_GZIP: Final = b"\x1f\x8b"
_BASE64_STARTS: Final = (b"/9j/", b"iVBORw0KGgo", b"UklGR")  # of JPEG, PNG and WebP
_DATA_URI: Final = re.compile(rb"\s*data:([^,]*),", re.IGNORECASE)  # RFC 2397
_HEAD: Final = 256  # bytes in which a data URI says what it holds
_ANY_WINDOW: Final = zlib.MAX_WBITS | 32  # headers of gzip as well as of zlib
_CODINGS: Final = {"Accept-Encoding": "gzip, deflate"}
_MAX_MEMBERS: Final = 64  # of gzip: each costs a copy of what follows it
_ENDS_WRONGLY: Final = "The body's {} data breaks off, or other data follows it"

Data = TypeVar("Data", bound=ImageBytes)


def decode(
    data: bytes | bytearray, content_encoding: str, transfer_encoding: str, most: int
) -> bytes | bytearray:
    """Return a body without the encodings that its header declares.

    Args:
        data: as received.
        content_encoding: `Content-Encoding`, empty if there is none.
        transfer_encoding: `Content-Transfer-Encoding`, likewise.
        most: bytes of the result.

    Raises:
        RequestError: 400, it is not encoded as declared; 413, the result is longer; 415, an unknown encoding.
    """
    coding = content_encoding.strip().lower()
    if coding in {"gzip", "x-gzip", "deflate"}:
        data = _decompress(data, coding, most)
    elif coding not in PLAIN:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Encoding {coding[:40]!r} cannot be undone; send gzip, deflate, or none.",
            _CODINGS,
        )
    return decode_transfer(data, transfer_encoding)


def decode_transfer(data: Data, transfer_encoding: str) -> Data | bytes:
    """Return a body or a form's part without its `Content-Transfer-Encoding` (RFC 2045, section 6).

    Raises:
        RequestError: 400, it is not encoded so; 415, an unknown encoding.
    """
    encoding = transfer_encoding.strip().lower()
    if encoding == "base64":
        return _from_base64(bytes(data))
    if encoding not in {"", "binary", "8bit", "7bit"}:
        raise RequestError(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Transfer-Encoding {encoding[:40]!r} cannot be undone; send base64 or binary.",
        )
    return data


def unwrap(data: ImageBytes, media_type: str) -> tuple[ImageBytes, str]:
    """Return the image in a data URI, with its media type unless `media_type` names one; others as they are.

    Raises:
        RequestError: 400, the URI's base64 is broken; 415, it is a URI of another form, or the bytes are
            compressed or base64 text, which no header said.
    """
    if not data or data[0] in _IMAGE_STARTS:
        return data, media_type
    head = bytes(data[:_HEAD])
    if uri := _DATA_URI.match(head):
        kind, *parameters = uri[1].decode("latin-1").lower().split(";")
        if parameters[-1:] != ["base64"]:
            raise _unsupported("The image is a data URI that is not base64; send data:image/jpeg;base64,...")
        return _from_base64(bytes(data[uri.end() :])), media_type if _is_image(media_type) else kind
    if head.startswith(_GZIP):
        raise _unsupported("The bytes are compressed with gzip; send the image itself.")
    if head.lstrip().startswith(_BASE64_STARTS):
        raise _unsupported(
            "The bytes are base64 text; send the image itself, or say Content-Transfer-Encoding: base64."
        )
    return data, media_type


def holds_image(data: ImageBytes) -> bool:
    """Return whether the bytes are an image, a data URI or base64 text, judged by their beginning."""
    head = bytes(data[:_HEAD])
    text = head.lstrip()
    return sniff(head) is not None or text.startswith(_BASE64_STARTS) or text[:11].lower() == b"data:image/"


def _decompress(data: bytes | bytearray, coding: str, most: int) -> bytes | bytearray:
    raw = coding == "deflate" and not _has_zlib_header(data)  # as many clients send it
    window = -zlib.MAX_WBITS if raw else _ANY_WINDOW
    plain: bytes | bytearray = b""
    rest: bytes | bytearray | memoryview = data
    for _ in range(_MAX_MEMBERS):
        stream = zlib.decompressobj(window)
        try:
            member = stream.decompress(rest, most + 1 - len(plain))
        except zlib.error as error:
            if rest is not data:
                raise _broken(_ENDS_WRONGLY.format(coding)) from error
            raise _broken(f"Content-Encoding says {coding}, but the body is not") from error
        plain = _joined(plain, member)
        if len(plain) > most:
            raise RequestError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"Decompressed, the body has more than {most:,} bytes; send less.",
            )
        if not stream.eof or (stream.unused_data and bytes(data[:2]) != _GZIP):
            raise _broken(_ENDS_WRONGLY.format(coding))
        rest = stream.unused_data
        if not rest:
            return plain
    raise _broken(f"The body's gzip data has more than {_MAX_MEMBERS} members")


def _joined(plain: bytes | bytearray, member: bytes) -> bytes | bytearray:
    """Return both, in the one copy there is if one of them is empty."""
    if not plain:
        return member
    plain = plain if isinstance(plain, bytearray) else bytearray(plain)
    plain += member
    return plain


def _has_zlib_header(data: bytes | bytearray) -> bool:
    """Return whether data begin as RFC 1950 or RFC 1952 says."""
    head = bytes(data[:2])
    return head == _GZIP or (
        len(head) == len(_GZIP) and head[0] & 0xF == zlib.DEFLATED and int.from_bytes(head) % 31 == 0
    )


def _from_base64(text: bytes) -> bytes:
    text = text.translate(None, b" \t\r\n")
    try:
        return binascii.a2b_base64(text + b"=" * (-len(text) % 4), strict_mode=True)
    except binascii.Error as error:
        raise _broken(f"The base64 text cannot be decoded ({error})") from error


def _is_image(media_type: str) -> bool:
    return media_type.startswith("image/")


def _broken(what: str) -> RequestError:
    return RequestError(HTTPStatus.BAD_REQUEST, f"{what}; send it again.")


def _unsupported(detail: str) -> RequestError:
    return RequestError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
