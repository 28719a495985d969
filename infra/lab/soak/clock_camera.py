"""Cameras that send MJPEG by HTTP, whose pictures show when they were made."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

from infra.lab.soak.clock_pictures import make_picture, to_jpeg

_HOST: Final = "127.0.0.1"


@dataclass
class ClockCameras:
    """Cameras of one server, as many as anybody connects to.

    Attributes:
        port: the server's port.
        fps: frames a second.
        frozen: while it is set, connections stay and nothing comes.
    """

    port: int
    fps: float
    frozen: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Address of a stream."""
        return f"http://{_HOST}:{self.port}/video"


@contextmanager
def clock_cameras(fps: float) -> Iterator[ClockCameras]:
    """Run cameras."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):
                while not stopped.wait(1 / cameras.fps):
                    if not cameras.frozen.is_set():
                        self._send_part(to_jpeg(make_picture(time.time())))

        def _send_part(self, data: bytes) -> None:
            header = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(header.encode() + data + b"\r\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    server = ThreadingHTTPServer((_HOST, 0), Handler)
    server.daemon_threads = True
    cameras = ClockCameras(server.server_address[1], fps)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield cameras
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()
