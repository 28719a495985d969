"""api.http.request: what is understood as a request, and what is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.request import MalformedRequestError, Request, parse_head


def parse(line: str, *fields: str) -> Request:
    """Parse a header of a request line and fields."""
    return parse_head("\r\n".join([line, *fields, "", ""]).encode("latin-1"), {"BASE": 1})


def test_a_header_becomes_an_environment() -> None:
    """As PEP 3333 has it: decoded path, joined fields, and what all requests of the connection share."""
    request = parse(
        "GET /a%20b?c=%20 HTTP/1.1", "Host: x", "Accept: a", "Accept: b", "Cookie: a=1", "Cookie: b=2"
    )
    assert request.environ == {
        "BASE": 1,
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
def test_what_could_be_read_in_two_ways_is_refused(fields: list[str]) -> None:
    """Else a proxy in front might see another request than we."""
    with pytest.raises(MalformedRequestError):
        parse("POST / HTTP/1.1", *fields)


def test_fields_after_the_body_change_nothing() -> None:
    """Who sends what was decided before."""
    request = parse("POST / HTTP/1.1", "Host: a", "Transfer-Encoding: chunked", "X-Camera-Id: a")
    assert request.chunks is not None
    assert request.chunks.feed(b"1\r\nx\r\n0\r\nX-Camera-Id: b\r\nCookie: c\r\n\r\nGARBAGE") == [b"x"]
    assert request.chunks.is_complete
    assert request.environ["HTTP_X_CAMERA_ID"] == "a"
    assert "HTTP_COOKIE" not in request.environ


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_whatever_comes_is_a_request_or_malformed(before: bytes, after: bytes) -> None:
    """Nothing else is raised."""
    try:
        request = parse_head(b"POST / HTTP/1.1\r\nHost: x\r\n" + before + b"\r\n" + after + b"\r\n\r\n", {})
    except MalformedRequestError:
        return
    assert request.method == "POST"
