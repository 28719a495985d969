"""api.server.request: requests are parsed, malformed ones are rejected."""

from __future__ import annotations

from collections import deque
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.server.limits import MAX_HEAD_BYTES
from api.server.request import Chunks, MalformedRequestError, Request, parse_head

BASE = {"REMOTE_ADDR": "192.0.2.9"}


def parse(line: str, *fields: str) -> Request:
    """Parse a header of a request line and fields."""
    return parse_head("\r\n".join([line, *fields, "", ""]).encode("latin-1"), BASE)


def test_a_header_becomes_an_environment() -> None:
    """As in PEP 3333: decoded path, joined fields, and the variables of the connection."""
    request = parse(
        "GET /a%20b?c=%20 HTTP/1.1", "Host: x", "Accept: a", "Accept: b", "Cookie: a=1", "Cookie: b=2"
    )
    assert request.environ == {
        **BASE,
        "HTTP_ACCEPT": "a, b",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_HOST": "x",
        "PATH_INFO": "/a b",
        "QUERY_STRING": "c=%20",
        "REQUEST_METHOD": "GET",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    assert not request.has_body
    assert parse("GET http://host/p?q HTTP/1.1", "Host: x").environ["QUERY_STRING"] == "q"
    assert parse("GET / HTTP/1.1", "Host: x", "Upgrade: h2c", "Connection: Upgrade").path == "/"


@pytest.mark.parametrize(
    ("version", "connection", "stays"),
    [("1.1", "", True), ("1.1", "Close", False), ("1.0", "", False), ("1.0", "keep-alive", True)],
)
def test_the_client_says_whether_the_connection_stays(version: str, connection: str, *, stays: bool) -> None:
    """RFC 9112, 9.3."""
    fields = ["Host: x", *([f"Connection: x, {connection}"] if connection else [])]
    assert parse(f"GET / HTTP/{version}", *fields).keep_alive is stays


@pytest.mark.parametrize(
    "fields",
    [
        [],
        ["Host: a", "Host: b"],
        ["Host: a", "Content-Length: 1", "Content-Length: 1"],
        ["Host: a", "Content-Length: 1, 1"],
        ["Host: a", "Content-Length: +1"],
        ["Host: a", "Content-Length: -1"],
        ["Host: a", "Content-Length: 99999999999999999999"],
        ["Host: a", "Content-Length: 1", "Transfer-Encoding: chunked"],
        ["Host: a", "Transfer-Encoding: chunked", "Content-Length: 1"],
        ["Host: a", "Transfer-Encoding: gzip, chunked"],
        ["Host: a", "Transfer-Encoding: chunked, chunked"],
        ["Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
        ["Host: a", "Transfer-Encoding : chunked"],
        ["Host: a", "Transfer-Encoding: \x0bchunked"],
        ["Host: a", " folded: x"],
        ["Host: a", "X: a\x00"],
        ["Host: a", "X: a\rb"],
        ["Host: a", "X: a\n\nGET /evil HTTP/1.1"],
    ],
)
def test_ambiguous_requests_are_rejected(fields: list[str]) -> None:
    """Else a proxy in front might see another request than we."""
    with pytest.raises(MalformedRequestError):
        parse("POST / HTTP/1.1", *fields)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.1", "192.0.2.9"),
        (1, "203.0.113.1, 2001:db8::1", "2001:db8::1"),
        (2, "evil, 203.0.113.1 ,198.51.100.1", "203.0.113.1"),
        (2, "203.0.113.1", "192.0.2.9"),
        (1, "", "192.0.2.9"),
        (1, 'x" 200', "192.0.2.9"),
    ],
)
def test_the_address_is_that_of_the_first_trusted_proxy(proxies: int, forwarded: str, address: str) -> None:
    """The address of the connection if the header has none."""
    head = f"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {forwarded}\r\n\r\n".encode()
    assert parse_head(head, BASE, proxies).address == address


@pytest.mark.parametrize("name", ["X-Camera-Id", "X-Captured-At", "X-Max-Age", "Idempotency-Key"])
def test_fields_of_one_value_may_come_once(name: str) -> None:
    """Else two cameras would become a third, of the name `a, b`."""
    with pytest.raises(MalformedRequestError, match=f"more than one {name} "):
        parse("POST / HTTP/1.1", "Host: x", f"{name}: a", f"{name.lower()}: b")
    assert parse("POST / HTTP/1.1", "Host: x", f"{name}: a, b", "Accept: a", "Accept: b")


def test_fields_after_the_body_change_nothing() -> None:
    """The request was dispatched before they came."""
    request = parse("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "X-Camera-Id: a")
    assert request.chunks is not None
    assert request.chunks.feed(b"1\r\nx\r\n0\r\nX-Camera-Id: b\r\nCookie: c\r\n\r\nGARBAGE") == [b"x"]
    assert request.chunks.is_complete
    assert request.environ["HTTP_X_CAMERA_ID"] == "a"
    assert "HTTP_COOKIE" not in request.environ


def in_chunks() -> Chunks:
    """A body whose first chunk is yet to come."""
    chunks = parse("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked").chunks
    assert chunks is not None
    return chunks


@pytest.mark.parametrize(
    ("before", "again"),
    [
        (b"1\r\nx\r\n0\r\nX: ", 999 * b"y"),
        (b"0\r\n", b"X: y\r\n"),
        (b"1;", 999 * b"y"),
        (b"", b"1;" + 999 * b"y" + b"\r\nx\r\n"),
        (b"100000\r\n" + 0x100000 * b"x" + b"\r\n0\r\nX: ", 999 * b"y"),
    ],
)
def test_framing_of_chunks_is_limited(before: bytes, again: bytes) -> None:
    """Trailers and the extensions of chunks, though bytes of the body come between."""
    chunks = in_chunks()
    chunks.feed(before)
    with pytest.raises(MalformedRequestError, match="send a Content-Length"):
        deque(map(chunks.feed, repeat(again, 2 * MAX_HEAD_BYTES // len(again))), maxlen=0)


@pytest.mark.parametrize("chunk", [b"1\r\nx\r\n", b"00000001\r\nx\r\n"])
def test_the_smallest_chunks_may_come(chunk: bytes) -> None:
    """As many as a body has bytes, and fields after them."""
    chunks = in_chunks()
    count = sum(len(piece) for _ in range(2 * MAX_HEAD_BYTES) for piece in chunks.feed(chunk))
    assert count == 2 * MAX_HEAD_BYTES
    chunks.feed(b"0\r\nX: y\r\n\r\n")
    assert chunks.is_complete


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_are_a_request_or_malformed(before: bytes, after: bytes) -> None:
    """Nothing else is raised."""
    try:
        request = parse_head(b"POST / HTTP/1.1\r\nHost: x\r\n" + before + b"\r\n" + after + b"\r\n\r\n", BASE)
    except MalformedRequestError:
        return
    assert request.method == "POST"
