"""gunicorn's worker process with our server in it: gunicorn starts, watches, replaces and stops processes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

from gunicorn.workers.base import Worker

from api.http.server import Server

_STOP_SECONDS: Final = 22.0
"""For requests under way when the process is told to stop: less than gunicorn's `graceful_timeout`."""

_TICK: Final = 1.0  # seconds between looks at what takes too long


class HttpWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """One process."""

    def init_signals(self) -> None:
        """Leave signals to the event loop; see `run`."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGABRT, self.handle_abort)
        for ignored in (signal.SIGUSR1, signal.SIGWINCH):  # There are no log files to open again.
            signal.signal(ignored, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until told to stop; gunicorn calls this in the new process."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._stop, stop)
        for at_once in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(at_once, os._exit, 0)
        server = Server(self.wsgi, loop)
        self._let_go_of_waiting()
        await server.listen([listener.sock for listener in self.sockets])
        ticking = loop.create_task(self._tick(server, stop))
        await stop.wait()
        await server.close(_STOP_SECONDS)
        ticking.cancel()

    def _stop(self, stop: asyncio.Event) -> None:
        self.alive = False
        stop.set()

    def _let_go_of_waiting(self) -> None:
        """Let requests that wait for a job answer at once when the process is told to stop."""
        self.wsgi.extensions["wastestream"].waiters.closing = lambda: not self.alive

    async def _tick(self, server: Server, stop: asyncio.Event) -> None:
        """Tell gunicorn that this process lives; stop if gunicorn itself has ended."""
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self._stop(stop)
            server.check()
            await asyncio.sleep(_TICK)
