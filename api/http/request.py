"""A request's header: from bytes to a WSGI environment (PEP 3333). llhttp, by way of httptools, parses it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from httptools import (
    HttpParserError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    parse_url,
)

from api.http.limits import MAX_HEAD
from api.http.proxy import client_address

HEAD_END: Final = b"\r\n\r\n"

_BAD_CHUNKS: Final = "The body's chunks are malformed; send a Content-Length instead."

_LEAST_SHARE: Final = 16  # Of so many bytes of chunks one is of the body, even of chunks of one byte.

_OWN_NAMES: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


_ONLY_ONE: Final = {
    "HTTP_X_CAMERA_ID": "X-Camera-Id",
    "HTTP_X_CAPTURED_AT": "X-Captured-At",
    "HTTP_X_MAX_AGE": "X-Max-Age",
    "HTTP_IDEMPOTENCY_KEY": "Idempotency-Key",
}
"""Fields that have one value, though one with a comma may be a camera's id."""


class MalformedRequestError(Exception):
    """Raised when bytes are no HTTP request; the message is a sentence for their sender."""


class _Message:
    """What the parser calls, for one request."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.environ = environ
        self.target = b""
        self.hosts = 0
        self.repeated = ""
        self.begun = 0
        self.has_head = False
        self.is_complete = False
        self.body: list[bytes] = []

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        variable = _variable(name)
        if variable is None or self.has_head:  # What comes after the chunks must not change what was decided.
            return
        text = value.decode("latin-1")
        before = self.environ.get(variable)
        if before is not None:  # RFC 9110, 5.3; cookies are the exception
            self.repeated = _ONLY_ONE.get(variable, self.repeated)
            text = f"{before}{'; ' if variable == 'HTTP_COOKIE' else ', '}{text}"
        self.environ[variable] = text
        self.hosts += variable == "HTTP_HOST"

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = True


@lru_cache(maxsize=256)  # nearly always the same few
def _variable(name: bytes) -> str | None:
    """Return the environment's name of a header field.

    None for one with an underscore: it would become the same as that with a hyphen, which a proxy may vouch
    for (`X_Forwarded_For`).
    """
    if b"_" in name:
        return None
    own = _OWN_NAMES.get(name.lower())
    return own or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


class Chunks:
    """A body that comes in chunks (RFC 9112, 7.1)."""

    __slots__ = ("_framing", "_message", "_parser")

    def __init__(self, parser: HttpRequestParser, message: _Message) -> None:
        self._parser = parser
        self._message = message
        self._framing = 0  # bytes beyond what the body's own allow

    @property
    def is_complete(self) -> bool:
        """Whether the last chunk has come."""
        return self._message.is_complete

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Return the pieces of the body in what came from the connection; what follows it is dropped.

        Raises:
            MalformedRequestError: it is no chunk, or there is too much beside the body: the parser collects
                the fields that follow it, in a time that grows with the square of their length.
        """
        try:
            _feed(self._parser, data, _BAD_CHUNKS)
        except MalformedRequestError:
            if not self.is_complete:
                raise
        pieces, self._message.body = self._message.body, []
        self._framing = max(0, self._framing + len(data) - _LEAST_SHARE * sum(map(len, pieces)))
        if self._framing > MAX_HEAD and not self.is_complete:
            raise MalformedRequestError(_BAD_CHUNKS)
        return pieces


class Request:
    """One request, whose body may still be on its way.

    Attributes:
        address: of the client; behind proxies that are believed, not of the connection.
        environ: for the application, still without `wsgi.input`.
        chunks: reads the body, if that has no length.
        length: of the body, bytes; 0 of one in chunks.
        keep_alive: whether the client wants to go on using the connection.
        expects_continue: whether it waits for leave to send the body (RFC 9110, 10.1.1).
    """

    __slots__ = ("address", "chunks", "environ", "expects_continue", "keep_alive", "length")

    def __init__(self, environ: dict[str, Any], chunks: Chunks | None, proxies: int) -> None:
        old = environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        wishes = {wish.strip() for wish in environ.get("HTTP_CONNECTION", "").lower().split(",")}
        self.address = client_address(environ, proxies)
        self.environ = environ
        self.chunks = chunks
        self.length = int(environ.get("CONTENT_LENGTH", "0"))
        # What follows chunks in one piece with them is dropped, so nothing can follow them.
        self.keep_alive = chunks is None and ("keep-alive" in wishes if old else "close" not in wishes)
        self.expects_continue = not old and environ.get("HTTP_EXPECT", "").lower() == "100-continue"

    @property
    def path(self) -> str:
        """Path of its target, decoded as WSGI has it."""
        path: str = self.environ["PATH_INFO"]
        return path

    @property
    def method(self) -> str:
        """Such as `GET`."""
        method: str = self.environ["REQUEST_METHOD"]
        return method

    @property
    def has_body(self) -> bool:
        """Whether a body follows the header."""
        return self.chunks is not None or self.length > 0


def parse_head(head: bytes, base: Mapping[str, Any], proxies: int = 0) -> Request:
    """Return the request that `head` begins.

    Args:
        head: request line and header fields, to the empty line.
        base: variables of the environment that all requests of the connection share.
        proxies: how many in front of the API are believed.

    Raises:
        MalformedRequestError: it is no HTTP request.
    """
    message = _Message(dict(base))
    parser = HttpRequestParser(message)
    _feed(parser, head, "The request's header is malformed; send HTTP/1.1.")
    if not message.has_head or message.begun != 1 or message.body:
        raise MalformedRequestError("The request's header is malformed; send HTTP/1.1.")
    version, environ = parser.get_http_version(), message.environ
    if version not in {"1.0", "1.1"}:
        raise MalformedRequestError(f"HTTP/{version} is not spoken here; send HTTP/1.1.")
    if message.hosts > 1 or (version == "1.1" and not message.hosts):
        raise MalformedRequestError("The request must have one Host header field; send it again with one.")
    if message.repeated:
        raise MalformedRequestError(
            f"The request has more than one {message.repeated} header field; send it again with one."
        )
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and (version == "1.0" or coding.lower() != "chunked"):
        raise MalformedRequestError("The Transfer-Encoding is not understood; send a Content-Length instead.")
    environ["REQUEST_METHOD"] = parser.get_method().decode("latin-1")
    environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
    path, environ["QUERY_STRING"] = _split(message.target)
    environ["PATH_INFO"] = (
        unquote_to_bytes(path).decode("latin-1") if b"%" in path else path.decode("latin-1")
    )
    return Request(environ, None if coding is None else Chunks(parser, message), proxies)


def _feed(parser: HttpRequestParser, data: bytes | memoryview, complaint: str) -> None:
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass  # What the client would rather speak is its affair: it is answered in HTTP/1.1.
    except HttpParserError as error:
        # The parser's own words may quote what was sent.
        raise MalformedRequestError(complaint) from error


def _split(target: bytes) -> tuple[bytes, str]:
    """Return path and query of a request's target; a proxy may have sent the whole URL (RFC 9112, 3.2.2)."""
    if not target.startswith(b"/"):
        try:
            url = parse_url(target)
        except HttpParserInvalidURLError as error:
            raise MalformedRequestError(
                "The request's target is no path; send one such as /v1/images."
            ) from error
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.partition(b"?")
    return path, query.decode("latin-1")
