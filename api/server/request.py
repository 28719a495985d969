"""Parser of request headers: from bytes to a WSGI environment (PEP 3333), with llhttp (httptools)."""

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

from api.http.proxy import client_address
from api.server.limits import MAX_HEAD_BYTES

HEAD_END: Final = b"\r\n\r\n"

_BAD_CHUNKS: Final = "The body's chunks are malformed; send a Content-Length instead."

_MAX_FRAMING: Final = 16  # bytes of chunks for each byte of the body; chunks of one byte have fewer

_CGI_NAMES: Final = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}


_SINGLE_VALUED: Final = {
    "HTTP_X_CAMERA_ID": "X-Camera-Id",
    "HTTP_X_CAPTURED_AT": "X-Captured-At",
    "HTTP_X_MAX_AGE": "X-Max-Age",
    "HTTP_IDEMPOTENCY_KEY": "Idempotency-Key",
}
"""Fields that a request may have once only: joined with a comma, two could read as one value."""


class MalformedRequestError(Exception):
    """Raised when bytes are not an HTTP request; the message is a sentence for the client."""


class _Message:
    """Callbacks of the parser, for one request."""

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
        if variable is None or self.has_head:  # Trailer fields must not change the request.
            return
        text = value.decode("latin-1")
        before = self.environ.get(variable)
        if before is not None:  # RFC 9110, 5.3; cookies are the exception
            self.repeated = _SINGLE_VALUED.get(variable, self.repeated)
            text = f"{before}{'; ' if variable == 'HTTP_COOKIE' else ', '}{text}"
        self.environ[variable] = text
        self.hosts += variable == "HTTP_HOST"

    def on_headers_complete(self) -> None:
        self.has_head = True

    def on_body(self, data: bytes) -> None:
        self.body.append(data)

    def on_message_complete(self) -> None:
        self.is_complete = True


@lru_cache(maxsize=256)  # clients send nearly always the same few
def _variable(name: bytes) -> str | None:
    """Return the variable of the environment for a header field.

    None for a field with an underscore: its variable would be that of the field with a hyphen, which a proxy
    may have checked (`X_Forwarded_For`).
    """
    if b"_" in name:
        return None
    return _CGI_NAMES.get(name.lower()) or "HTTP_" + name.decode("latin-1").upper().replace("-", "_")


class Chunks:
    """A body in chunks (RFC 9112, 7.1)."""

    __slots__ = ("_framing", "_message", "_parser")

    def __init__(self, parser: HttpRequestParser, message: _Message) -> None:
        self._parser = parser
        self._message = message
        self._framing = 0  # bytes of framing out of proportion to the body

    @property
    def is_complete(self) -> bool:
        """Whether the last chunk has been received."""
        return self._message.is_complete

    def feed(self, data: bytes | memoryview) -> list[bytes]:
        """Return the pieces of the body in `data`; bytes after the last chunk are discarded.

        Raises:
            MalformedRequestError: a chunk is malformed, or the framing is too long: the parser collects
                trailer fields in a time that grows with the square of their length.
        """
        try:
            _feed(self._parser, data, _BAD_CHUNKS)
        except MalformedRequestError:
            if not self.is_complete:
                raise
        pieces, self._message.body = self._message.body, []
        self._framing = max(0, self._framing + len(data) - _MAX_FRAMING * sum(map(len, pieces)))
        if self._framing > MAX_HEAD_BYTES and not self.is_complete:
            raise MalformedRequestError(_BAD_CHUNKS)
        return pieces


class Request:
    """One request, whose body may not be received yet.

    Attributes:
        address: of the client; behind trusted proxies, not of the connection.
        environ: for the application, still without `wsgi.input`.
        chunks: the body, if it has no declared length.
        length: bytes of the body; 0 if it comes in chunks.
        keep_alive: whether the client wants to keep the connection.
        expects_continue: whether the client waits for `100 Continue` (RFC 9110, 10.1.1).
    """

    __slots__ = ("address", "chunks", "environ", "expects_continue", "keep_alive", "length")

    def __init__(self, environ: dict[str, Any], chunks: Chunks | None, proxies: int) -> None:
        is_old = environ["SERVER_PROTOCOL"] == "HTTP/1.0"
        options = {option.strip() for option in environ.get("HTTP_CONNECTION", "").lower().split(",")}
        self.address = client_address(environ, proxies)
        self.environ = environ
        self.chunks = chunks
        self.length = int(environ.get("CONTENT_LENGTH", "0"))
        # Bytes after the last chunk are discarded, so no request can follow.
        self.keep_alive = chunks is None and ("keep-alive" in options if is_old else "close" not in options)
        self.expects_continue = not is_old and environ.get("HTTP_EXPECT", "").lower() == "100-continue"

    @property
    def path(self) -> str:
        """Path of its target, decoded as in WSGI."""
        path: str = self.environ["PATH_INFO"]
        return path

    @property
    def method(self) -> str:
        """Method, such as `GET`."""
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
        proxies: number of trusted proxies in front of the API.

    Raises:
        MalformedRequestError: the bytes are not an HTTP request.
    """
    message = _Message(dict(base))
    parser = HttpRequestParser(message)
    _feed(parser, head, "The request's header is malformed; send HTTP/1.1.")
    if not message.has_head or message.begun != 1 or message.body:
        raise MalformedRequestError("The request's header is malformed; send HTTP/1.1.")
    version, environ = parser.get_http_version(), message.environ
    if version not in {"1.0", "1.1"}:
        raise MalformedRequestError(f"HTTP/{version} is not supported; send HTTP/1.1.")
    if message.hosts > 1 or (version == "1.1" and not message.hosts):
        raise MalformedRequestError("The request must have one Host header field; send it again with one.")
    if message.repeated:
        raise MalformedRequestError(
            f"The request has more than one {message.repeated} header field; send it again with one."
        )
    coding = environ.get("HTTP_TRANSFER_ENCODING")
    if coding is not None and (version == "1.0" or coding.lower() != "chunked"):
        raise MalformedRequestError("The Transfer-Encoding is not supported; send a Content-Length instead.")
    environ["REQUEST_METHOD"] = parser.get_method().decode("latin-1")
    environ["SERVER_PROTOCOL"] = f"HTTP/{version}"
    path, environ["QUERY_STRING"] = _split(message.target)
    environ["PATH_INFO"] = (
        unquote_to_bytes(path).decode("latin-1") if b"%" in path else path.decode("latin-1")
    )
    return Request(environ, None if coding is None else Chunks(parser, message), proxies)


def _feed(parser: HttpRequestParser, data: bytes | memoryview, detail: str) -> None:
    try:
        parser.feed_data(data)
    except HttpParserUpgrade:
        pass  # The server does not upgrade; it responds in HTTP/1.1.
    except HttpParserError as error:
        # The parser's message may quote the request.
        raise MalformedRequestError(detail) from error


def _split(target: bytes) -> tuple[bytes, str]:
    """Return path and query of a request's target, which may be a whole URL (RFC 9112, 3.2.2)."""
    if not target.startswith(b"/"):
        try:
            url = parse_url(target)
        except HttpParserInvalidURLError as error:
            raise MalformedRequestError(
                "The request's target is not a path; send one such as /v1/images."
            ) from error
        target = (url.path or b"/") + (b"?" + url.query if url.query else b"")
    path, _, query = target.partition(b"?")
    return path, query.decode("latin-1")
