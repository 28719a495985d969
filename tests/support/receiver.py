"""A receiver of webhooks: a real HTTP server that verifies what it gets, and misbehaves on request."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook

Response = Callable[[BaseHTTPRequestHandler], None]


@dataclass(frozen=True)
class Delivery:
    """A request that was received.

    Attributes:
        id: header `webhook-id`.
        host: header `Host`.
        body: bytes.
        message: the body, verified; None while the receiver has no secret.
    """

    id: str
    host: str
    body: bytes
    message: Any

    @property
    def job_ids(self) -> list[str]:
        """Ids of its results."""
        return [job["id"] for job in self.message["data"]["results"]]


def status(code: int, **headers: str) -> Response:
    """Return a response with a status and no body."""

    def respond(request: BaseHTTPRequestHandler) -> None:
        request.send_response(code)
        for name, value in {**headers, "Content-Length": "0"}.items():
            request.send_header(name, value)
        request.end_headers()

    return respond


class Receiver:
    """Listens on loopback; answers 204 unless told otherwise."""

    def __init__(self) -> None:
        self.secret = self.id = ""
        self.respond = status(204)
        self.deliveries: list[Delivery] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                receiver._receive(self)

            def log_message(self, *_: object) -> None:
                """Tests print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/hook?from=belt"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def _receive(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        message = Webhook(self.secret).verify(body, dict(request.headers)) if self.secret else None
        self.deliveries.append(
            Delivery(request.headers["webhook-id"], request.headers["Host"], body, message)
        )
        self.respond(request)

    @property
    def job_ids(self) -> list[str]:
        """Ids of all results received, repeated ones too."""
        return [job_id for delivery in list(self.deliveries) for job_id in delivery.job_ids]

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
