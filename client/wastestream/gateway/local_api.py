"""The gateway's own HTTP server, for this machine: `/livez`, `/metrics`, `/status`, `POST /trigger`."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, Final
from urllib.parse import parse_qs, urlsplit

from wastestream.gateway.errors import ConfigError, TriggerError
from wastestream.gateway.gateway import Gateway
from wastestream.gateway.overview import overview

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_LOCAL: Final = {"localhost", "127.0.0.1", "::1"}


@contextmanager
def serving(gateway: Gateway, address: str) -> Iterator[int]:
    """Serve; give the port.

    Raises:
        ConfigError: the address is in use.
    """
    host, _, port = address.rpartition(":")
    handler = type("Handler", (_Handler,), {"gateway": gateway})
    try:
        server = ThreadingHTTPServer((host, int(port)), handler)
    except OSError as error:
        raise ConfigError(
            f"listen: {address} cannot be used ({error.strerror}). Another gateway may run; give each its "
            "own port."
        ) from error
    with server:
        thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    gateway: ClassVar[Gateway]
    timeout = 10
    server_version = "wastestream-camera"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a GET."""
        path = urlsplit(self.path).path
        if not self._is_local():
            return
        if path == "/livez":
            healthy = self.gateway.healthy
            self._send(
                HTTPStatus.OK if healthy else HTTPStatus.INTERNAL_SERVER_ERROR,
                _TEXT,
                "ok\n" if healthy else "no\n",
            )
        elif path == "/metrics":
            self._send(HTTPStatus.OK, f"{_TEXT}; version=0.0.4", overview(self.gateway).to_metrics())
        elif path == "/status":
            self._send_json(HTTPStatus.OK, asdict(overview(self.gateway)))
        else:
            self._fail(HTTPStatus.NOT_FOUND, "There are /livez, /metrics, /status and POST /trigger.")

    def do_POST(self) -> None:
        """Answer a POST."""
        parts = urlsplit(self.path)
        if not self._is_local():
            return
        if parts.path != "/trigger":
            self._fail(HTTPStatus.NOT_FOUND, "There is only POST /trigger?camera=ID.")
            return
        cameras = parse_qs(parts.query).get("camera", [])
        if len(cameras) != 1:
            self._fail(HTTPStatus.BAD_REQUEST, "Name one camera: POST /trigger?camera=ID.")
            return
        try:
            frame = self.gateway.trigger(cameras[0])
        except TriggerError as error:
            self._fail(HTTPStatus.CONFLICT, str(error))
        else:
            self._send_json(HTTPStatus.ACCEPTED, {"camera": cameras[0], "frame": frame})

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
        """Log no request."""

    def _is_local(self) -> bool:
        """Return whether a program of this machine asks; refuse pages of other sites in a browser."""
        host = urlsplit(f"//{self.headers.get('Host', '')}").hostname
        if host in _LOCAL and self.headers.get("Origin") is None:
            return True
        self._fail(HTTPStatus.FORBIDDEN, "Only programs of this machine may ask; call 127.0.0.1.")
        return False

    def _fail(self, status: HTTPStatus, detail: str) -> None:
        self._send_json(status, {"error": detail})

    def _send_json(self, status: HTTPStatus, document: object) -> None:
        self._send(status, _JSON, json.dumps(document) + "\n")

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
