"""Receiver of a webhook during a soak."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from core.jobs import JobState
from core.redis.webhooks import WebhookStore
from infra.lab.soak.deliveries import Deliveries
from infra.lab.stack import HOST, Stack

NETWORK: Final = "127.0.0.0/8"
"""The network to allow webhooks to (`WASTESTREAM_WEBHOOK_NETWORKS`)."""


@contextmanager
def receiving(stack: Stack) -> Iterator[Deliveries]:
    """Have a stack send all results to a receiver."""
    deliveries = Deliveries()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            deliveries.note(job["id"] for job in json.loads(body)["data"]["results"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="receiver", daemon=True).start()
    try:
        states = [state for state in JobState if state.terminal]
        WebhookStore(stack.redis()).create(f"http://{HOST}:{server.server_port}/", ["*"], states)
        yield deliveries
    finally:
        server.shutdown()
        server.server_close()
