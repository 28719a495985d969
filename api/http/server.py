"""The HTTP server of one process: its connections, and the threads behind them."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from flask import Flask

from api.http import answer as answers
from api.http.access_log import AccessLog
from api.http.admission import Admission, Terms
from api.http.answer import Answer, refusal
from api.http.connection import Connection
from api.http.limits import MAX_CONNECTIONS, MAX_PER_ADDRESS, MAX_UNREAD
from api.http.repeats import Repeats
from api.http.request import Request
from api.services import Services

logger = logging.getLogger(__name__)

_SCRATCH: Final = 64 * 1024  # bytes received at once where there is no place for them yet

_BACKLOG: Final = 2048  # connections that the system holds until they are accepted

_OTHER_FILES: Final = 500  # threads' connections to Redis and storage, libraries, logs


class Server:
    """Serves one application. All methods are for the event loop."""

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        services: Services = app.extensions["wastestream"]
        self.scratch = memoryview(bytearray(_SCRATCH))
        self.closing = False
        self.proxies = services.settings.trusted_proxies
        self._app = app
        self._loop = loop
        self._admission = Admission(app, loop)
        self._access_log = AccessLog() if services.settings.access_log else None
        self._errors = Repeats(logger)
        self._most = most_connections()
        self._listeners: list[asyncio.Server] = []
        # The connections of each address, the one that was idle for longest first.
        self._connections: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._held: dict[Connection, int] = {}  # bytes of answers that wait to be read
        self._held_bytes = 0
        self.at_once = self._admission.at_once
        self.in_time = self._admission.in_time

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Accept connections from now on."""
        for sock in sockets:
            listener = await self._loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG)
            self._listeners.append(listener)

    async def close(self, seconds: float) -> None:
        """Accept no more, and return when every request is answered, or the time is over."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        deadline = time.monotonic() + seconds
        while self._count and time.monotonic() < deadline:
            for connection in self._all():
                connection.finish()
            await asyncio.sleep(0.05)
        self._admission.close()

    def check(self) -> None:
        """Give up what takes too long; to be called every second or so."""
        now = time.monotonic()
        for connection in self._all():
            connection.check(now)
        for lane in self._admission.lanes:
            lane.refuse_late(now)
        self._errors.flush()

    # ---- What connections call -------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Count a connection; if there are too many, close the one that is needed least."""
        own = self._connections.setdefault(connection.address, {})
        own[connection] = None
        self._count += 1
        if len(own) > MAX_PER_ADDRESS:
            self._evict(own)
        elif self._count > self._most:
            self._evict(max(self._connections.values(), key=len))

    def closed(self, connection: Connection) -> None:
        """Count it no longer."""
        own = self._connections[connection.address]
        del own[connection]
        self._count -= 1
        if not own:
            del self._connections[connection.address]
        self.holds(connection, 0)

    def holds(self, connection: Connection, size: int) -> None:
        """Count the bytes of an answer that wait for the client to read.

        If there are too many, those are not sent that have waited for longest.
        """
        self._held_bytes -= self._held.pop(connection, 0)
        if size:
            self._held[connection] = size
            self._held_bytes += size
        while self._held_bytes > MAX_UNREAD:
            oldest = next(iter(self._held))
            self._held_bytes -= self._held.pop(oldest)
            oldest.transport.abort()

    def environ(self, connection: Connection) -> Mapping[str, Any]:
        """Return the environment that a connection's requests share (PEP 3333)."""
        host, port = connection.transport.get_extra_info("sockname")[:2]
        return {
            "SCRIPT_NAME": "",
            "SERVER_NAME": str(host),
            "SERVER_PORT": str(port),
            "REMOTE_ADDR": connection.address,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }

    def serve(self, request: Request, terms: Terms, answered: Callable[[Answer], None]) -> None:
        """Have a thread serve the request, and answer it."""

        def work() -> None:
            answer = self._run(request)
            self._loop.call_soon_threadsafe(done, answer)

        def done(answer: Answer) -> None:
            terms.lane.leave()
            answered(answer)

        terms.lane.run(work, lambda: answered(self._admission.busy(terms)))

    def answered(
        self, connection: Connection, request: Request | None, answer: Answer, seconds: float
    ) -> None:
        """Log an answer."""
        own = self._connections[connection.address]
        del own[connection]  # It comes last now.
        own[connection] = None
        address = connection.address if request is None else request.address
        if answer.problem:
            self._errors.warn(f"{address} was answered {answer.status}: {answer.problem}")
        if self._access_log is not None:
            self._access_log.write(address, request, answer, seconds)

    # ---- Smaller parts ---------------------------------------------------------------------------

    def _all(self) -> list[Connection]:
        return [connection for own in self._connections.values() for connection in own]

    def _run(self, request: Request) -> Answer:
        try:
            return answers.run(self._app, request.environ)
        except Exception:  # The application answers its own errors, so this is one of the way there or back.
            logger.exception("A request failed in an unforeseen way")
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "The request failed on our side.")

    def _evict(self, own: Mapping[Connection, None]) -> None:
        """Close the first of these connections that no thread serves."""
        idle = next((one for one in own if not one.is_served and not one.transport.is_closing()), None)
        if idle is not None:
            idle.transport.abort()


def allow_files() -> None:
    """Let this process and its children have as many connections open as they may, and files besides."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def most_connections() -> int:
    """Return how many connections the system lets this process have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, soft - _OTHER_FILES))
