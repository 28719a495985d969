"""How the API's threads serve connections: gunicorn's way, but for clients that send call after call."""

from __future__ import annotations

import select
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

LINGER_MS: Final = 5
"""Milliseconds that a thread waits for the next request of the connection that it has just answered."""


class LingeringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threads, which stay with a connection for a moment.

    gunicorn hands each connection back to its main thread after every request, to be watched, and takes it
    from there for the next one: two changes of thread each time. Where there are threads enough for all
    connections, a thread that waits for the next request keeps nobody from being served.
    """

    def handle(self, conn: Any) -> Any:
        """Serve the connection's requests for as long as the next one follows at once."""
        while (answer := super().handle(conn)) is True and self._follows(conn):
            pass
        return answer

    def _follows(self, conn: Any) -> bool:
        """Say whether another request comes within a moment."""
        if not self.alive or self.nr_conns > self.cfg.threads or conn.parser.unreader.buf.getvalue():
            return False
        waiting = select.poll()
        waiting.register(conn.sock, select.POLLIN)
        return bool(waiting.poll(LINGER_MS))
