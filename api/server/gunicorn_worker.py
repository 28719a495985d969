"""gunicorn's worker class with our server. gunicorn starts, watches, replaces and stops the processes."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Final

from gunicorn.workers.base import Worker

from api.server.server import Server
from api.server.telemetry import Telemetry

STOP_SECONDS: Final = 22.0
"""For running requests when the process must stop: less than `GRACEFUL_TIMEOUT`."""

GRACEFUL_TIMEOUT: Final = 25
"""Seconds after which gunicorn kills a process that must stop; so the whole API stops within 30 s."""

_TICK: Final = 1.0  # seconds between checks of time limits


class HttpWorker(Worker):  # type: ignore[misc]  # gunicorn has no types
    """One process of the API."""

    def init_signals(self) -> None:
        """Leave signals to the event loop; see `run`."""
        for number in self.SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGABRT, self.handle_abort)
        for ignored in (signal.SIGUSR1, signal.SIGWINCH):  # There are no log files to open again.
            signal.signal(ignored, signal.SIG_IGN)

    def run(self) -> None:
        """Serve until the process must stop; gunicorn calls this in the new process."""
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self._stop, stop)
        for number in (signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(number, os._exit, 0)
        server = Server(self.wsgi, loop)
        self._end_waits_on_stop()
        await server.listen([listener.sock for listener in self.sockets])
        ticking = loop.create_task(self._tick(server, stop))
        telemetry = Telemetry(self.wsgi.extensions["wastestream"])
        telemetry.start()
        await stop.wait()
        await server.close(STOP_SECONDS)
        await loop.run_in_executor(None, telemetry.stop)
        ticking.cancel()

    def _stop(self, stop: asyncio.Event) -> None:
        self.alive = False
        stop.set()

    def _end_waits_on_stop(self) -> None:
        """Make requests that wait for a job respond at once when the process must stop."""
        self.wsgi.extensions["wastestream"].job_events.closing = lambda: not self.alive

    async def _tick(self, server: Server, stop: asyncio.Event) -> None:
        """Send gunicorn heartbeats, check time limits, and stop if gunicorn itself has ended."""
        while True:
            self.notify()
            if self.ppid != os.getppid():
                self._stop(stop)
            server.check()
            await asyncio.sleep(_TICK)
