"""The HTTP server of one process: its connections, and the threads that run their requests."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from flask import Flask

from api.http.log_limit import RateLimitedLog
from api.http.problem_types import ProblemType
from api.server.access_log import AccessLog
from api.server.connection import Connection
from api.server.dispatch import Dispatch, Dispatcher
from api.server.event_streams import EventStreams
from api.server.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS, MAX_UNREAD_BYTES
from api.server.request import Request
from api.server.response import Response, call_wsgi, error_response
from api.server.telemetry import count
from api.services import Services

logger = logging.getLogger(__name__)

_SCRATCH: Final = 64 * 1024  # bytes of the shared receive buffer

_BACKLOG: Final = 2048  # connections that the kernel queues until they are accepted

_OTHER_FILES: Final = 500  # connections to Redis and storage, libraries, logs


class Server:
    """Serves one application. All methods are for the event loop."""

    def __init__(self, app: Flask, loop: asyncio.AbstractEventLoop) -> None:
        services: Services = app.extensions["wastestream"]
        self.scratch = memoryview(bytearray(_SCRATCH))
        self.closing = False
        self.proxies = services.settings.trusted_proxies
        self._app = app
        self._loop = loop
        self._dispatcher = Dispatcher(app, loop)
        self.streams = EventStreams(services, loop)
        self._access_log = AccessLog() if services.settings.access_log else None
        self._errors = RateLimitedLog(logger)
        self._max_connections = max_connections()
        self._listeners: list[asyncio.Server] = []
        # The connections of each address, the one that has been idle for longest first.
        self._connections: dict[str, dict[Connection, None]] = {}
        self._count = 0
        self._unread: dict[Connection, int] = {}  # bytes of responses that wait to be read, oldest first
        self._unread_bytes = 0
        self.dispatch_now = self._dispatcher.dispatch_now
        self.dispatch = self._dispatcher.dispatch

    async def listen(self, sockets: list[socket.socket]) -> None:
        """Start to accept connections."""
        for sock in sockets:
            listener = await self._loop.create_server(lambda: Connection(self), sock=sock, backlog=_BACKLOG)
            self._listeners.append(listener)

    async def close(self, seconds: float) -> None:
        """Accept no more connections; return when no request is left, or the time is over."""
        self.closing = True
        for listener in self._listeners:
            listener.close()
        self.streams.close()
        deadline = time.monotonic() + seconds
        while self._count and time.monotonic() < deadline:
            for connection in self._all():
                connection.finish()
            await asyncio.sleep(0.05)
        self._dispatcher.close()

    def check(self) -> None:
        """Abort connections whose current step takes too long; to be called about once a second."""
        now = time.monotonic()
        for connection in self._all():
            connection.check(now)
        for pool in self._dispatcher.pools:
            pool.reject_overdue(now)
        self.streams.check(now)
        self._errors.flush()

    # ---- Calls of connections --------------------------------------------------------------------

    def on_open(self, connection: Connection) -> None:
        """Count a connection; if there are too many, close the one that has been idle for longest."""
        own = self._connections.setdefault(connection.address, {})
        own[connection] = None
        self._count += 1
        if len(own) > MAX_CONNECTIONS_PER_ADDRESS:
            self._evict(own)
        elif self._count > self._max_connections:
            self._evict(max(self._connections.values(), key=len))

    def on_close(self, connection: Connection) -> None:
        """Stop counting a connection."""
        own = self._connections[connection.address]
        del own[connection]
        self._count -= 1
        if not own:
            del self._connections[connection.address]
        self.on_unread(connection, 0)

    def on_unread(self, connection: Connection, size: int) -> None:
        """Count the bytes of a response that wait for the client to read; 0 once it is sent.

        If there are too many, abort the responses that have waited for longest.
        """
        self._unread_bytes -= self._unread.pop(connection, 0)
        if size:
            self._unread[connection] = size
            self._unread_bytes += size
        while self._unread_bytes > MAX_UNREAD_BYTES:
            oldest = next(iter(self._unread))
            self._unread_bytes -= self._unread.pop(oldest)
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

    def serve(self, request: Request, dispatch: Dispatch, respond: Callable[[Response], None]) -> None:
        """Run the request in a thread of its pool, then call `respond`."""

        def work() -> None:
            response = self._run(request)
            self._loop.call_soon_threadsafe(done, response)

        def done(response: Response) -> None:
            dispatch.pool.release()
            respond(response)

        dispatch.pool.submit(work, lambda: respond(self._dispatcher.busy_response(dispatch)))

    def on_response(
        self, connection: Connection, request: Request | None, response: Response, seconds: float
    ) -> None:
        """Count and log a response."""
        count(request, response, seconds)
        own = self._connections[connection.address]
        del own[connection]  # Last now, as the one that has been idle for shortest.
        own[connection] = None
        address = connection.address if request is None else request.address
        if response.problem:
            self._errors.warn(f"{address} was answered {response.status}: {response.problem}")
        if self._access_log is not None:
            self._access_log.write(address, request, response, seconds)

    # ---- Helpers ---------------------------------------------------------------------------------

    def _all(self) -> list[Connection]:
        return [connection for own in self._connections.values() for connection in own]

    def _run(self, request: Request) -> Response:
        try:
            return call_wsgi(self._app, request.environ)
        except Exception:  # The application handles its own errors, so this is a fault between it and here.
            logger.exception("Unexpected error in a request")
            return error_response(ProblemType.SERVER_FAULT, ProblemType.SERVER_FAULT.meaning)

    def _evict(self, own: Mapping[Connection, None]) -> None:
        """Close the first of these connections that runs no request."""
        idle = next(
            (
                connection
                for connection in own
                if not connection.is_running and not connection.transport.is_closing()
            ),
            None,
        )
        if idle is not None:
            idle.transport.abort()


def raise_file_limit() -> None:
    """Raise the limit of open files of this process and its children as far as the server needs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + _OTHER_FILES
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


def max_connections() -> int:
    """Return the connections that this process may have within its limit of open files."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MAX_CONNECTIONS
    return max(1, min(MAX_CONNECTIONS, soft - _OTHER_FILES))
