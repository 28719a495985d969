"""api.http.encodings: gzip, base64 and data URIs."""

from __future__ import annotations

import base64
import gzip
import zlib

import pytest

from api.http.encodings import decode, decode_transfer, holds_image, unwrap
from api.http.problems import RequestError
from tests.support.images import encoded, jpeg

LIMIT = 1000
TEXT = base64.b64encode(jpeg())


def compress(data: bytes) -> bytes:
    """Compress without the time, so that the tests have the same names in all processes that run them."""
    return gzip.compress(data, mtime=0)


@pytest.mark.parametrize(
    ("body", "coding", "transfer"),
    [
        (b"image", "", ""),
        (b"image", "identity", "Binary"),
        (compress(b"image"), "gzip", ""),
        (compress(b"image"), " X-GZIP ", "8bit"),
        (zlib.compress(b"image"), "deflate", ""),
        (zlib.compress(b"image", wbits=-15), "deflate", ""),
        (zlib.compress(b"image", wbits=9), "deflate", ""),
        (compress(b"im") + compress(b"") + compress(b"age"), "gzip", ""),
        (b"aW1h\r\nZ2U=\r\n", "", "base64"),
        (b"aW1hZ2U", "", " Base64"),
        (compress(b"aW1hZ2U="), "gzip", "base64"),
    ],
)
def test_declared_encodings_are_decoded(body: bytes, coding: str, transfer: str) -> None:
    """In any case and order; base64 with lines, or without its end."""
    assert decode(body, coding, transfer, LIMIT) == b"image"


@pytest.mark.parametrize(
    ("body", "coding", "transfer", "status", "says"),
    [
        (b"image", "gzip", "", 400, "says gzip, but the body is not"),
        (compress(b"image")[:-1], "gzip", "", 400, "is incomplete"),
        (compress(b"image") + b"x", "gzip", "", 400, "other data follows"),
        (compress(bytes(LIMIT + 1)), "gzip", "", 413, "more than 1,000 bytes"),
        (compress(b"") * 65, "gzip", "", 400, "more than 64 members"),
        (compress(bytes(LIMIT)) + compress(b"x"), "gzip", "", 413, "more than 1,000 bytes"),
        (compress(compress(b"image")), "gzip, gzip", "", 415, "'gzip, gzip' is not supported"),
        (b"image", "br", "", 415, "'br' is not supported; send gzip"),
        (b"aW1hZ2U=!", "", "base64", 400, "base64 text cannot be decoded"),
        (b"aW1hZ", "", "base64", 400, "base64 text cannot be decoded"),
        (b"=69", "", "quoted-printable", 415, "'quoted-printable' is not supported"),
    ],
)
def test_unsupported_or_broken_encodings_are_rejected(
    body: bytes, coding: str, transfer: str, status: int, says: str
) -> None:
    """The sentence names the encoding and the remedy."""
    with pytest.raises(RequestError, match=says) as caught:
        decode(body, coding, transfer, LIMIT)
    assert caught.value.kind.status == status
    names_codings = status == 415 and coding != ""
    assert caught.value.headers == ({"Accept-Encoding": "gzip, deflate"} if names_codings else {})


def test_a_bomb_is_not_inflated() -> None:
    """A kilobyte that stands for a megabyte gives no more than the limit."""
    with pytest.raises(RequestError, match="more than"):
        decode(gzip.compress(bytes(10**7)), "gzip", "", LIMIT)


def test_a_body_without_encoding_is_not_copied() -> None:
    """An image comes back as the very same object."""
    data = memoryview(jpeg())
    assert decode_transfer(data, "") is data
    assert unwrap(data, "image/jpeg")[0] is data
    body = bytearray(jpeg())
    assert decode(body, "", "", LIMIT) is body


@pytest.mark.parametrize(
    ("uri", "declared", "media_type"),
    [
        (b"data:image/jpeg;base64," + TEXT, "", "image/jpeg"),
        (b"data:image/jpeg;base64," + TEXT, "text/plain", "image/jpeg"),
        (b"data:image/jpeg;base64," + TEXT, "image/png", "image/png"),
        (b"\r\n DATA:Image/JPEG;name=a;BASE64," + TEXT + b"\r\n", "", "image/jpeg"),
    ],
)
def test_a_data_uri_is_its_image(uri: bytes, declared: str, media_type: str) -> None:
    """With any type of text declared; another image type stays, to be rejected."""
    assert unwrap(memoryview(uri), declared) == (jpeg(), media_type)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"data:image/svg+xml,%3Csvg", "is a data URI without base64"),
        (b"data:,x", "is a data URI without base64"),
        (b"data:image/jpeg;base64,/9j/!", "base64 text cannot be decoded"),
        (gzip.compress(jpeg()), "compressed with gzip"),
        (TEXT, "are base64 text"),
        (b"\n" + base64.b64encode(encoded(image_format="PNG")), "are base64 text"),
        (base64.b64encode(encoded(image_format="WEBP")), "are base64 text"),
    ],
)
def test_an_encoding_that_nobody_declared_is_named(data: bytes, says: str) -> None:
    """The sentence names the encoding."""
    with pytest.raises(RequestError, match=says):
        unwrap(data, "image/jpeg")


@pytest.mark.parametrize("data", [b"", b"hello", b"data", b"/9j", b"data:text/plain,x"])
def test_other_bytes_are_left_to_the_check_of_images(data: bytes) -> None:
    """They are no image either way."""
    assert not holds_image(data)
    if not data.startswith(b"data:"):
        assert unwrap(data, "image/jpeg") == (data, "image/jpeg")


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_images_are_known_by_their_beginning(image_format: str) -> None:
    """Raw, as base64 text, and as a data URI."""
    data = encoded(image_format=image_format)
    text = base64.b64encode(data)
    assert holds_image(data)
    assert holds_image(b"\r\n" + text)
    assert holds_image(b"data:image/x;base64," + text)
