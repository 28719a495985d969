"""Receiver of a webhook during a soak: the sink of the feed that is watched."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from core.jobs import JobState
from core.redis.webhooks import WebhookStore
from infra.lab.stack import HOST, Stack

NETWORK: Final = "127.0.0.0/8"
"""The network to allow webhooks to (`WASTESTREAM_WEBHOOK_NETWORKS`)."""


class Receiver:
    """Notes when each result first came.

    Attributes:
        received: id of a job to that time, Unix time, in the order of receipt.
    """

    def __init__(self) -> None:
        self.received: dict[str, float] = {}

    def take(self, body: bytes) -> None:
        """Note the results of a delivery."""
        now = time.time()
        for job in json.loads(body)["data"]["results"]:
            self.received.setdefault(job["id"], now)

    def last_received(self, ids: set[str]) -> float | None:
        """Return when the last of these results came; None if one has not."""
        times = [self.received.get(job_id) for job_id in ids]
        known = [moment for moment in times if moment is not None]
        return max(known, default=0.0) if len(known) == len(times) else None


@contextmanager
def receiving(stack: Stack) -> Iterator[Receiver]:
    """Have a stack send all results to a receiver."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
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
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
