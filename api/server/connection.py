"""A client's connection: its requests one after the other, each with time limits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from typing import Any, Final, Protocol

from api.http.body import RELEASE_BODY, DiscardedBody, ReceivedBody
from api.http.problem_types import ProblemType
from api.server.body_reader import BodyReader, body_reader
from api.server.dispatch import Dispatch
from api.server.event_streams import EventStream, EventStreams
from api.server.limits import (
    DISCARD_TIMEOUT,
    HEAD_TIMEOUT,
    KEEP_ALIVE_TIMEOUT,
    LINGER_TIMEOUT,
    MAX_HEAD_BYTES,
    TransferMonitor,
)
from api.server.request import HEAD_END, MalformedRequestError, Request, parse_head
from api.server.response import Response, error_response

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_EMPTY_LINE: Final = b"\r\n"

_TOO_MANY_STREAMS: Final = "All event streams are taken, or half of them by you; connect again later."


class State(Enum):
    """State of a connection."""

    HEAD = auto()  # waits for a request, or for the rest of its header
    DISPATCH = auto()  # waits for the decision on the request
    BODY = auto()  # receives the body
    RUNNING = auto()  # a thread serves the request, or the request waits for a thread
    RESPONSE = auto()  # sends the response
    STREAM = auto()  # sends events until it ends
    LINGER = auto()  # lets the client read the last response


class ConnectionServer(Protocol):
    """The server, as a connection uses it."""

    scratch: memoryview
    """Receive buffer for all bytes but those of bodies of declared length; all connections share it."""

    closing: bool
    streams: EventStreams

    proxies: int
    """Number of trusted proxies in front of the API."""

    def on_open(self, connection: Connection) -> None:
        """Count a connection."""

    def on_close(self, connection: Connection) -> None:
        """Stop counting a connection."""

    def on_unread(self, connection: Connection, size: int) -> None:
        """Count the bytes of a response that wait for the client to read."""

    def environ(self, connection: Connection) -> Mapping[str, Any]:
        """Return the environment that a connection's requests share."""

    def dispatch_now(self, request: Request) -> Dispatch | None:
        """See `Dispatcher.dispatch_now`."""

    async def dispatch(self, request: Request) -> Dispatch:
        """See `Dispatcher.dispatch`."""

    def serve(self, request: Request, dispatch: Dispatch, respond: Callable[[Response], None]) -> None:
        """Run the request in a thread."""

    def on_response(
        self, connection: Connection, request: Request | None, response: Response, seconds: float
    ) -> None:
        """Count and log a response."""


class Connection(asyncio.BufferedProtocol):
    """One connection. All methods are for the event loop."""

    def __init__(self, server: ConnectionServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._state = State.HEAD
        self._since = time.monotonic()  # of the state
        self._pending = bytearray()  # received, but not parsed yet
        self._searched = 0  # bytes of it that hold no end of a header
        self._head_since: float | None = None
        self._served = 0
        self._request: Request | None = None
        self._request_since = 0.0
        self._dispatch: Dispatch | None = None
        self._body: BodyReader | None = None
        self._transfer = TransferMonitor(0.0)
        self._keep_alive = False
        self._response_size = 0
        self._is_full = False  # the system accepts no more of the response
        self._is_paused = False
        self._has_ended = False  # The client sends nothing more.
        self._dispatch_task: asyncio.Task[None] | None = None
        self._stream: EventStream | None = None

    # ---- Callbacks of the event loop ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream server
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.address = str(transport.get_extra_info("peername", ("",))[0])
        self._environ = self._server.environ(self)
        self._server.on_open(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._dispatch_task is not None:
            self._dispatch_task.cancel()
        if self._state is State.BODY:
            self._release_memory()
        if self._stream is not None:
            self._server.streams.remove(self._stream)
        self._server.on_close(self)

    def get_buffer(self, _hint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        buffer = self._body_buffer()
        return self._server.scratch if buffer is None else buffer

    def buffer_updated(self, count: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._body is not None and self._body_buffer() is not None:
            self._body.advance(count)
            if self._body.is_complete:
                self._serve()
            return
        if self._state in {State.STREAM, State.LINGER}:
            return
        self._pending += self._server.scratch[:count]
        if self._state is State.HEAD:
            self._read_head()
        elif self._state is State.BODY:
            self._feed_body()
        else:
            self._pause()

    def eof_received(self) -> bool:
        """Keep the connection open while a response is due; see `asyncio.BufferedProtocol`."""
        self._has_ended = True
        return self._state in {State.DISPATCH, State.RUNNING, State.RESPONSE}

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = False
        if self._state is State.RESPONSE:
            self._sent()
        elif self._stream is not None:
            self._stream.step()

    # ---- Calls of the server -------------------------------------------------------------------

    @property
    def is_running(self) -> bool:
        """Whether a request is running, so that the connection must not be closed."""
        return self._state in {State.RUNNING, State.STREAM}

    def check(self, now: float) -> None:
        """Abort the connection if its current step takes too long."""
        match self._state:
            case State.HEAD:
                self._check_head(now)
            case State.BODY:
                self._check_body(now)
            case State.RESPONSE:
                sent = self._response_size - self.transport.get_write_buffer_size()
                if self._transfer.is_too_slow(now, sent):
                    self.transport.abort()
            case State.STREAM if self._stream is not None:
                self._stream.check(now)
            case State.LINGER:
                if now - self._since > LINGER_TIMEOUT:
                    self.transport.abort()

    def finish(self) -> None:
        """Close the connection unless a request has begun; then its response is the last."""
        if self._state is State.HEAD and self._head_since is None:
            self.transport.close()

    # ---- Steps of a request ----------------------------------------------------------------------

    def _read_head(self) -> None:
        """Begin the next request if its header is complete."""
        while self._pending.startswith(_EMPTY_LINE):  # RFC 9112, 2.2
            del self._pending[: len(_EMPTY_LINE)]
        if not self._pending:
            self._searched, self._head_since = 0, None
            return
        if self._head_since is None:
            self._head_since = time.monotonic()
        end = self._pending.find(HEAD_END, max(0, self._searched - len(HEAD_END)))
        self._searched = len(self._pending)
        if end > MAX_HEAD_BYTES or (end < 0 and self._searched > MAX_HEAD_BYTES):
            detail = f"The request's header has more than {MAX_HEAD_BYTES:,} bytes; send less."
            self._reject(ProblemType.HEADER_TOO_LARGE, detail)
        elif end >= 0:
            head = bytes(self._pending[: end + len(HEAD_END)])
            del self._pending[: len(head)]
            self._begin_request(head)

    def _begin_request(self, head: bytes) -> None:
        self._searched, self._head_since, self._request_since = 0, None, time.monotonic()
        try:
            request = parse_head(head, self._environ, self._server.proxies)
        except MalformedRequestError as error:
            self._reject(ProblemType.MALFORMED_REQUEST, str(error))
            return
        self._request, self._keep_alive = request, request.keep_alive
        dispatch = self._server.dispatch_now(request)
        if dispatch is not None:
            self._receive(request, dispatch)
        else:
            self._state = State.DISPATCH
            self._dispatch_task = self._loop.create_task(self._wait_for_dispatch(request))

    async def _wait_for_dispatch(self, request: Request) -> None:
        dispatch = await self._server.dispatch(request)
        self._dispatch_task = None
        if self.transport.is_closing():
            if dispatch.memory is not None:
                dispatch.memory.release()
        else:
            self._receive(request, dispatch)

    def _receive(self, request: Request, dispatch: Dispatch) -> None:
        """Receive the request's body, if it has one."""
        self._dispatch = dispatch
        if not request.has_body:
            self._state = State.BODY
            self._serve()
            return
        if request.expects_continue and not self._pending:
            if not dispatch.max_body:  # The client gets its response first; whether it sends then is unknown.
                self._keep_alive = False
                self._state = State.BODY
                self._serve()
                return
            self.transport.write(_CONTINUE)
        self._state, self._transfer = State.BODY, TransferMonitor.start()
        self._body = body_reader(request, dispatch.max_body)
        self._resume()
        self._feed_body()

    def _feed_body(self) -> None:
        body = self._body
        assert body is not None  # noqa: S101 - in this state
        try:
            if self._pending:
                body.feed(self._pending)
        except MalformedRequestError as error:
            self._reject(ProblemType.MALFORMED_REQUEST, str(error))
            return
        if body.is_complete:
            self._serve()

    def _serve(self) -> None:
        """Serve the request, whose body is complete or no longer waited for."""
        request, dispatch, body = self._request, self._dispatch, self._body
        assert request is not None  # noqa: S101 - there is one in this state
        assert dispatch is not None  # noqa: S101
        self._state, self._body = State.RUNNING, None
        if dispatch.response is not None:
            self._respond(dispatch.response)
            return
        environ = request.environ
        if body is None:
            environ["wsgi.input"] = DiscardedBody() if request.has_body else ReceivedBody(bytearray())
        else:
            environ["wsgi.input"] = body.wsgi_input()
        if request.chunks is not None:
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = "0" if body is None else str(body.count)
        if dispatch.memory is not None:
            environ[RELEASE_BODY] = partial(self._loop.call_soon_threadsafe, dispatch.memory.release)
        self._server.serve(request, dispatch, self._respond)

    def _respond(self, response: Response) -> None:
        """Send the response."""
        self._release_memory()
        request, self._request, self._dispatch = self._request, None, None
        if self.transport.is_closing():
            return
        if response.stream and (self._server.closing or not self._server.streams.has_room(response.stream)):
            response = error_response(ProblemType.SERVER_BUSY, _TOO_MANY_STREAMS)
        keeps = self._keep_alive and response.stream is None
        self._keep_alive = keeps and not self._server.closing and not self._has_ended
        with_body = request is None or request.method != "HEAD"
        data = response.encoded(keep_alive=self._keep_alive, with_body=with_body)
        self._server.on_response(self, request, response, time.monotonic() - self._request_since)
        self._state, self._transfer, self._response_size = State.RESPONSE, TransferMonitor.start(), len(data)
        self.transport.write(data)
        if response.stream is not None:
            self._state = State.STREAM
            self._stream = self._server.streams.open(response.stream, self.transport)
            self._resume()
        elif self._is_full:
            self._server.on_unread(self, len(data))
        else:
            self._sent()

    def _sent(self) -> None:
        """Wait for the next request, or close."""
        self._served += 1
        self._since = time.monotonic()
        self._server.on_unread(self, 0)
        if not self._keep_alive or self._has_ended:
            self._linger()
            return
        self._state = State.HEAD
        self._resume()
        if self._pending:
            self._head_since = self._since
            self._loop.call_soon(self._read_next)

    def _read_next(self) -> None:
        if self._state is State.HEAD and not self.transport.is_closing():
            self._read_head()

    def _linger(self) -> None:
        """Send no more, and discard further bytes of the client, so that it can read the response.

        Closed at once, the connection would be reset, and the response lost with it (RFC 9112, 9.6).
        """
        self._state = State.LINGER
        self._pending.clear()
        if self._has_ended:
            self.transport.close()
            return
        with contextlib.suppress(OSError):  # The client has just reset it.
            self.transport.write_eof()
        self._resume()

    def _reject(self, kind: ProblemType, detail: str) -> None:
        """Respond to a malformed or late request, and close the connection."""
        self._body = None
        self._keep_alive = False
        self._respond(error_response(kind, detail))

    # ---- Helpers ---------------------------------------------------------------------------------

    def _check_head(self, now: float) -> None:
        if self._head_since is not None:
            if now - self._head_since > HEAD_TIMEOUT:
                detail = f"The request's header took more than {HEAD_TIMEOUT:.0f} seconds; send it at once."
                self._reject(ProblemType.REQUEST_TOO_SLOW, detail)
        elif now - self._since > (KEEP_ALIVE_TIMEOUT if self._served else HEAD_TIMEOUT):
            self.transport.close()

    def _check_body(self, now: float) -> None:
        body, dispatch = self._body, self._dispatch
        if body is None or dispatch is None:
            return
        if not dispatch.max_body:
            if now - self._transfer.began > DISCARD_TIMEOUT:
                self._keep_alive = False
                self._serve()
        elif self._transfer.is_too_slow(now, body.count):
            took = now - self._transfer.began
            detail = (
                f"The body was sent too slowly: {body.count:,} bytes in {took:.0f} seconds; send it again."
            )
            self._reject(ProblemType.REQUEST_TOO_SLOW, detail)

    def _release_memory(self) -> None:
        if self._dispatch is not None and self._dispatch.memory is not None:
            self._dispatch.memory.release()

    def _body_buffer(self) -> memoryview | None:
        return self._body.buffer() if self._state is State.BODY and self._body is not None else None

    def _pause(self) -> None:
        if not self._is_paused and not self._has_ended:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()
