"""One client's connection: its requests in turn, each with a time by which it must have come, and gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Protocol

from api.http.admission import Terms
from api.http.answer import Answer, refusal
from api.http.body import DONE, DroppedBody, ReceivedBody
from api.http.gather import Gathering, gather
from api.http.limits import (
    DISCARD_SECONDS,
    HEAD_SECONDS,
    IDLE_SECONDS,
    LINGER_SECONDS,
    MAX_HEAD,
    Pace,
)
from api.http.request import HEAD_END, MalformedRequestError, Request, parse_head

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_EMPTY_LINE: Final = b"\r\n"


class State(Enum):
    """What a connection does."""

    HEAD = auto()  # waits for a request, or for the rest of its header
    ADMISSION = auto()  # waits to learn what becomes of the request
    BODY = auto()  # receives the body
    SERVED = auto()  # a thread has the request, or will have it
    ANSWER = auto()  # sends the answer
    LINGER = auto()  # lets the client read the last answer


class Service(Protocol):
    """What a connection needs of the server."""

    scratch: memoryview
    """Where bytes are received that have no place of their own yet; all connections share it."""

    closing: bool

    proxies: int
    """How many in front of the API are believed."""

    def opened(self, connection: Connection) -> None:
        """Count a connection."""

    def closed(self, connection: Connection) -> None:
        """Count it no longer."""

    def holds(self, connection: Connection, size: int) -> None:
        """Count the bytes of an answer that wait for the client to read."""

    def environ(self, connection: Connection) -> Mapping[str, Any]:
        """Return the environment that its requests share."""

    def at_once(self, request: Request) -> Terms | None:
        """See `Admission.at_once`."""

    async def in_time(self, request: Request) -> Terms:
        """See `Admission.in_time`."""

    def serve(self, request: Request, terms: Terms, answered: Callable[[Answer], None]) -> None:
        """Have a thread serve the request."""

    def answered(
        self, connection: Connection, request: Request | None, answer: Answer, seconds: float
    ) -> None:
        """Log an answer."""


class Connection(asyncio.BufferedProtocol):
    """See the module. All methods are for the event loop."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._loop = asyncio.get_running_loop()
        self._state = State.HEAD
        self._since = time.monotonic()  # of the state
        self._ahead = bytearray()  # what has come and belongs to nothing yet
        self._searched = 0  # bytes of it that hold no end of a header
        self._head_since: float | None = None
        self._served = 0
        self._request: Request | None = None
        self._request_since = 0.0
        self._terms: Terms | None = None
        self._body: Gathering | None = None
        self._pace = Pace(0.0)
        self._keep_alive = False
        self._answer_size = 0
        self._is_full = False  # the system takes no more of the answer
        self._is_paused = False
        self._has_ended = False  # The client sends nothing more.
        self._admission: asyncio.Task[None] | None = None

    # ---- What the event loop calls ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - of a stream server
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.address = str(transport.get_extra_info("peername", ("",))[0])
        self._environ = self._service.environ(self)
        self._service.opened(self)

    def connection_lost(self, _error: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._admission is not None:
            self._admission.cancel()
        if self._state is State.BODY:
            self._leave_place()
        self._service.closed(self)

    def get_buffer(self, _hint: int) -> memoryview:
        """See `asyncio.BufferedProtocol`."""
        room = self._body.room() if self._state is State.BODY and self._body is not None else None
        return self._service.scratch if room is None else room

    def buffer_updated(self, count: int) -> None:
        """See `asyncio.BufferedProtocol`."""
        if self._state is State.BODY and self._body is not None and self._body.room() is not None:
            self._body.filled(count)
            if self._body.is_complete:
                self._serve()
            return
        if self._state is State.LINGER:
            return
        self._ahead += self._service.scratch[:count]
        if self._state is State.HEAD:
            self._read_head()
        elif self._state is State.BODY:
            self._feed_body()
        else:
            self._pause()

    def eof_received(self) -> bool:
        """Keep the connection open for an answer that is due; see `asyncio.BufferedProtocol`."""
        self._has_ended = True
        return self._state in {State.ADMISSION, State.SERVED, State.ANSWER}

    def pause_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See `asyncio.BaseProtocol`."""
        self._is_full = False
        if self._state is State.ANSWER:
            self._sent()

    # ---- What the server calls -------------------------------------------------------------------

    @property
    def is_served(self) -> bool:
        """Whether a thread has its request, so that it must not be closed."""
        return self._state is State.SERVED

    def check(self, now: float) -> None:
        """Give up what takes too long."""
        match self._state:
            case State.HEAD:
                self._check_head(now)
            case State.BODY:
                self._check_body(now)
            case State.ANSWER:
                sent = self._answer_size - self.transport.get_write_buffer_size()
                if self._pace.is_too_slow(now, sent):
                    self.transport.abort()
            case State.LINGER:
                if now - self._since > LINGER_SECONDS:
                    self.transport.abort()

    def finish(self) -> None:
        """Close the connection if no request is under way; else when it is answered."""
        if self._state is State.HEAD and self._head_since is None:
            self.transport.close()

    # ---- A request, step by step -----------------------------------------------------------------

    def _read_head(self) -> None:
        """Begin the next request if its header is there."""
        while self._ahead.startswith(_EMPTY_LINE):  # RFC 9112, 2.2
            del self._ahead[: len(_EMPTY_LINE)]
        if not self._ahead:
            self._searched, self._head_since = 0, None
            return
        if self._head_since is None:
            self._head_since = time.monotonic()
        end = self._ahead.find(HEAD_END, max(0, self._searched - len(HEAD_END)))
        self._searched = len(self._ahead)
        if end > MAX_HEAD or (end < 0 and self._searched > MAX_HEAD):
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            self._refuse(status, f"The request's header has more than {MAX_HEAD:,} bytes; send less.")
        elif end >= 0:
            head = bytes(self._ahead[: end + len(HEAD_END)])
            del self._ahead[: len(head)]
            self._begin(head)

    def _begin(self, head: bytes) -> None:
        self._searched, self._head_since, self._request_since = 0, None, time.monotonic()
        try:
            request = parse_head(head, self._environ, self._service.proxies)
        except MalformedRequestError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        self._request, self._keep_alive = request, request.keep_alive
        terms = self._service.at_once(request)
        if terms is not None:
            self._receive(request, terms)
        else:
            self._state = State.ADMISSION
            self._admission = self._loop.create_task(self._wait_for_terms(request))

    async def _wait_for_terms(self, request: Request) -> None:
        terms = await self._service.in_time(request)
        self._admission = None
        if self.transport.is_closing():
            if terms.place is not None:
                terms.place.leave()
        else:
            self._receive(request, terms)

    def _receive(self, request: Request, terms: Terms) -> None:
        """Receive the request's body, if it has one."""
        self._terms = terms
        if not request.has_body:
            self._state = State.BODY
            self._serve()
            return
        if request.expects_continue and not self._ahead:
            if not terms.most:  # It is answered before it sends; whether it then still does, nobody knows.
                self._keep_alive = False
                self._state = State.BODY
                self._serve()
                return
            self.transport.write(_CONTINUE)
        self._state, self._pace = State.BODY, Pace.start()
        self._body = gather(request, terms.most)
        self._resume()
        self._feed_body()

    def _feed_body(self) -> None:
        body = self._body
        assert body is not None  # noqa: S101 - in this state
        try:
            if self._ahead:
                body.feed(self._ahead)
        except MalformedRequestError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
            return
        if body.is_complete:
            self._serve()

    def _serve(self) -> None:
        """Have the request served: its body has come, or as much of it as is waited for."""
        request, terms, body = self._request, self._terms, self._body
        assert request is not None  # noqa: S101 - there is one in this state
        assert terms is not None  # noqa: S101
        self._state, self._body = State.SERVED, None
        if terms.answer is not None:
            self._answer(terms.answer)
            return
        environ = request.environ
        if body is None:
            environ["wsgi.input"] = DroppedBody() if request.has_body else ReceivedBody(bytearray())
        else:
            environ["wsgi.input"] = body.input()
        if request.chunks is not None:
            del environ["HTTP_TRANSFER_ENCODING"]
            environ["CONTENT_LENGTH"] = "0" if body is None else str(body.count)
        if terms.place is not None:
            environ[DONE] = partial(self._loop.call_soon_threadsafe, terms.place.leave)
        self._service.serve(request, terms, self._answer)

    def _answer(self, answer: Answer) -> None:
        """Send the answer."""
        self._leave_place()
        request, self._request, self._terms = self._request, None, None
        if self.transport.is_closing():
            return
        self._keep_alive = self._keep_alive and not self._service.closing and not self._has_ended
        with_body = request is None or request.method != "HEAD"
        data = answer.encoded(keep_alive=self._keep_alive, with_body=with_body)
        self._service.answered(self, request, answer, time.monotonic() - self._request_since)
        self._state, self._pace, self._answer_size = State.ANSWER, Pace.start(), len(data)
        self.transport.write(data)
        if self._is_full:
            self._service.holds(self, len(data))
        else:
            self._sent()

    def _sent(self) -> None:
        """Go on to the next request, or close."""
        self._served += 1
        self._since = time.monotonic()
        self._service.holds(self, 0)
        if not self._keep_alive or self._has_ended:
            self._linger()
            return
        self._state = State.HEAD
        self._resume()
        if self._ahead:
            self._head_since = self._since
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._state is State.HEAD and not self.transport.is_closing():
            self._read_head()

    def _linger(self) -> None:
        """Say that nothing more comes, and drop what the client still sends, so that it can read the answer.

        Closed at once, the connection would be reset, and the answer lost with it (RFC 9112, 9.6).
        """
        self._state = State.LINGER
        self._ahead.clear()
        if self._has_ended:
            self.transport.close()
            return
        with contextlib.suppress(OSError):  # reset by the client in this moment
            self.transport.write_eof()
        self._resume()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer what is no request, or does not come; it is the connection's last."""
        self._body = None
        self._keep_alive = False
        self._answer(refusal(status, detail))

    # ---- Smaller parts ---------------------------------------------------------------------------

    def _check_head(self, now: float) -> None:
        if self._head_since is not None:
            if now - self._head_since > HEAD_SECONDS:
                detail = (
                    f"The request's header did not come within {HEAD_SECONDS:.0f} seconds; send it at once."
                )
                self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)
        elif now - self._since > (IDLE_SECONDS if self._served else HEAD_SECONDS):
            self.transport.close()

    def _check_body(self, now: float) -> None:
        body, terms = self._body, self._terms
        if body is None or terms is None:
            return
        if not terms.most:
            if now - self._pace.began > DISCARD_SECONDS:
                self._keep_alive = False
                self._serve()
        elif self._pace.is_too_slow(now, body.count):
            took = now - self._pace.began
            detail = f"The body came too slowly: {body.count:,} bytes in {took:.0f} seconds; send it again."
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, detail)

    def _leave_place(self) -> None:
        if self._terms is not None and self._terms.place is not None:
            self._terms.place.leave()

    def _pause(self) -> None:
        if not self._is_paused and not self._has_ended:
            self._is_paused = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._is_paused and not self.transport.is_closing():
            self._is_paused = False
            self.transport.resume_reading()
