"""Cameras for tests: an RTSP server, an MJPEG server, and pictures that show when they were made."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import av
import pytest

from infra.lab.soak.clock_pictures import make_picture, to_jpeg

_PYTHON: Final = "/usr/bin/python3"  # Debian's has the bindings of GStreamer.
_SERVER: Final = Path(__file__).with_name("rtsp_server.py")


@dataclass
class RtspCamera:
    """A camera with an RTSP server.

    Attributes:
        process: the server.
        port: its port.
        password: of the name `user`, if it asks for one.
    """

    process: subprocess.Popen[str]
    port: int
    password: str | None

    @property
    def url(self) -> str:
        """Address of the stream."""
        login = f"user:{self.password}@" if self.password else ""
        return f"rtsp://{login}127.0.0.1:{self.port}/stream"

    def tell(self, command: str) -> None:
        """Send a command: `size 640x480`, `pause` or `resume`."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def freeze(self) -> None:
        """Stop the whole server, which keeps its connections."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the server go on."""
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def rtsp_camera(*, codec: str = "h264", fps: float = 25, password: str | None = None) -> Iterator[RtspCamera]:
    """Run a camera; skip the test where GStreamer's RTSP server is not installed."""
    command = [_PYTHON, str(_SERVER), "--codec", codec, "--fps", str(fps)]
    command += ["--password", password] if password else []
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
    except FileNotFoundError:
        _miss("there is no /usr/bin/python3")
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        port = process.stdout.readline()
        if not port:
            _miss(process.stderr.read())
        threading.Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield RtspCamera(process, int(port), password)
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()


def _miss(why: str) -> None:
    """Skip, or fail in CI, which installs what the tests need."""
    text = f"needs gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-{{good,ugly}} and python3-gi: {why}"
    if os.environ.get("CI"):
        pytest.fail(text)
    pytest.skip(text)


def without_tables(data: bytes) -> bytes:
    """Return a JPEG file without its Huffman tables, as many USB cameras send it."""
    at, kept = 2, [data[:2]]
    while data[at + 1] != 0xDA:
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] != 0xC4:
            kept.append(data[at:end])
        at = end
    return b"".join([*kept, data[at:]])


@dataclass
class MjpegCamera:
    """A camera with an HTTP server: `/video`, `/large`, `/bare` (no Huffman tables), `/garbage`, `/silent`.

    Attributes:
        port: its port.
        sent: every JPEG that `/video` sent.
    """

    port: int
    sent: set[bytes] = field(default_factory=set)

    def url(self, path: str, login: str = "") -> str:
        """Address of a stream."""
        return f"http://{login}127.0.0.1:{self.port}{path}"


@contextmanager
def mjpeg_camera(*, fps: float = 10) -> Iterator[MjpegCamera]:
    """Run a camera that sends MJPEG by HTTP."""
    stopped = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/private":
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            with suppress(OSError):
                while not stopped.wait(1 / fps):
                    self._send_part()

        def _send_part(self) -> None:
            if self.path == "/silent":
                return
            size = (4000, 3000) if self.path == "/large" else (320, 240)
            data = to_jpeg(make_picture(time.time(), *size))
            if self.path == "/bare":
                data = without_tables(data)
            elif self.path == "/garbage":
                data = os.urandom(2000)
            else:
                camera.sent.add(data)
            header = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            self.wfile.write(header.encode() + data + b"\r\n")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class' name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    camera = MjpegCamera(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield camera
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def write_clip(path: Path, seconds: int = 4) -> None:
    """Write a video of 10 pictures a second, which show seconds since 1970: 0, 1, 2 and so on."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuvj420p"
        for number in range(10 * seconds):
            rgb = make_picture(float(number)).convert("RGBA").tobytes()
            frame = av.VideoFrame.from_bytes(rgb, 320, 240).reformat(format="yuvj420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
