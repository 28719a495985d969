"""Metrics of one API process: of its responses, and the thread that reports them."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from functools import lru_cache
from typing import Final

from api.http.route import route_of
from api.routes.long_poll import MAY_WAIT
from api.server.request import Request
from api.server.response import Response
from api.services import Services
from core.errors import RedisUnavailableError
from core.metrics import HTTP_REQUESTS, HTTP_SECONDS
from core.redis.metrics import REPORT_SECONDS

logger = logging.getLogger(__name__)

_OTHER: Final = ("other", "other")
"""Method and route of requests that no route serves: a client could invent any number."""


def count(request: Request | None, response: Response, seconds: float) -> None:
    """Count a response, `seconds` after its request was received."""
    method, route = _OTHER if request is None else _route(request)
    HTTP_REQUESTS.add(method, route, str(response.status))
    # How long a request waits for a job is its client's choice.
    if request is None or not request.environ.get(MAY_WAIT):
        HTTP_SECONDS.observe(seconds, method, route)


def _route(request: Request) -> tuple[str, str]:
    rule = route_of(request.environ)
    return _OTHER if rule is None else (request.method, _braced(rule))


@lru_cache(maxsize=256)
def _braced(rule: str) -> str:
    """Return a route as the OpenAPI document has it."""
    return rule.replace("<path:", "{").replace("<", "{").replace(">", "}")


class Telemetry(threading.Thread):
    """Reports what the process counts, until it ends."""

    def __init__(self, services: Services) -> None:
        super().__init__(name="telemetry", daemon=True)
        self._services = services
        self._process = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._stopping = threading.Event()
        self._waiting = 0  # as reported

    def run(self) -> None:
        """Report every `REPORT_SECONDS`."""
        while not self._stopping.wait(REPORT_SECONDS):
            self._report()

    def stop(self) -> None:
        """Report for the last time."""
        self._stopping.set()
        self._report()

    def _report(self) -> None:
        try:
            self._services.reporter.report()
            waiting = self._services.job_events.waiting
            if waiting or self._waiting:
                self._services.waiting.report(self._process, waiting)
                self._waiting = waiting
        except RedisUnavailableError as error:
            logger.debug("Metrics not sent: %s", error)
