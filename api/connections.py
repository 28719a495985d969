"""How the API's threads serve connections: gunicorn's way, but for clients that send call after call."""

from __future__ import annotations

import select
from typing import Any, Final

from gunicorn.workers.gthread import ThreadWorker

from api.client_socket import ClientSocket
from api.sized import SizedBody, sized

LINGER_MS: Final = 1000
"""Milliseconds that a thread waits for the next request of the connection that it has just answered.

A camera of a frame a second or more keeps its thread. Where all threads wait like this and one client more
comes, it waits as long at most.
"""


class LingeringWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's threads, which stay with a connection for a moment.

    gunicorn hands each connection back to its main thread after every request, to be watched, and takes it
    from there for the next one: two changes of thread each time. Where there are threads enough for all
    connections, a thread that waits for the next request keeps nobody from being served.
    """

    def handle(self, conn: Any) -> Any:
        """Serve the connection's requests for as long as the next one follows at once."""
        if not isinstance(conn.sock, ClientSocket):
            conn.sock = ClientSocket(conn.sock)
        while (answer := super().handle(conn)) is True and self._follows(conn):
            pass
        return answer

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Serve one request, whose body can be received as a whole, and answer it in one piece."""
        req.body = sized(req.body, conn.sock)
        conn.sock.hold()
        try:
            answer = super().handle_request(req, conn)
        except BaseException:
            conn.sock.drop()  # What answers instead must not follow the beginning of another answer.
            raise
        conn.sock.flush()
        return answer

    def _keepalive_after(self, conn: Any, keepalive: Any) -> Any:
        """Return whether the connection can serve another request; gunicorn's looks for a body to drop."""
        body = conn.parser.mesg.body
        if keepalive and isinstance(body, SizedBody) and body.is_read:
            return True
        return super()._keepalive_after(conn, keepalive)

    def _follows(self, conn: Any) -> bool:
        """Say whether another request comes within a moment."""
        if not self.alive or self.nr_conns > self.cfg.threads or conn.parser.unreader.buf.getvalue():
            return False
        waiting = select.poll()
        waiting.register(conn.sock, select.POLLIN)
        return bool(waiting.poll(LINGER_MS))
