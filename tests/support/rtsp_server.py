"""A camera: an RTSP server whose pictures show when they were made. Runs on Debian's Python, with GStreamer.

Prints its port. Reads commands from standard input, one a line: `size WIDTHxHEIGHT`, `pause`, `resume`.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

# Cells of a picture, 8 by 8: eight white ones, eight black ones, then the milliseconds since 1970 in binary.
WHITE, BLACK = "1" * 8, "0" * 8

X264 = "x264enc tune=zerolatency sliced-threads=false threads=1 speed-preset=ultrafast key-int-max=25"
ENCODERS = {
    "h264": f"{X264} ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "mjpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
}
SOURCE = "appsrc name=source is-live=true do-timestamp=true format=time block=true max-bytes=2000000"


class Picture:
    """Pictures of one size."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._chroma = bytes([128]) * (width * height // 2)

    def frame(self, moment: float) -> bytes:
        """Return an I420 frame."""
        cells = WHITE + BLACK + f"{round(moment * 1000):048b}"
        rows = []
        for row in range(8):
            line = bytearray()
            for column in range(8):
                edge = self.width * (column + 1) // 8 - self.width * column // 8
                line += bytes([235 if cells[row * 8 + column] == "1" else 16]) * edge
            rows.append(bytes(line) * (self.height * (row + 1) // 8 - self.height * row // 8))
        return b"".join(rows) + self._chroma

    def caps(self, fps: float) -> Gst.Caps:
        """Return what GStreamer must know of the frames."""
        size = f"width={self.width},height={self.height}"
        return Gst.Caps.from_string(f"video/x-raw,format=I420,{size},framerate={round(fps * 1000)}/1000")


class Feed:
    """Pushes frames into a stream at its rate."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.size = options.size
        self.paused = False

    def configure(self, _: object, media: GstRtspServer.RTSPMedia) -> None:
        """Feed a medium that somebody wants to see."""
        source = media.get_element().get_child_by_name("source")
        threading.Thread(target=self._push, args=(source,), daemon=True).start()

    def _push(self, source: Gst.Element) -> None:
        picture = Picture(*self.options.size)
        source.set_property("caps", picture.caps(self.options.fps))
        began = time.monotonic()
        number = 0
        while True:
            time.sleep(max(0.0, began + number / self.options.fps - time.monotonic()))
            number += 1
            if self.paused:
                continue
            if (picture.width, picture.height) != self.size:
                picture = Picture(*self.size)
                source.set_property("caps", picture.caps(self.options.fps))
            buffer = Gst.Buffer.new_wrapped(picture.frame(time.time()))
            if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                return


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--codec", choices=ENCODERS, default="h264")
    parser.add_argument("--fps", type=float, default=25)
    parser.add_argument("--size", type=_size, default=(320, 240))
    parser.add_argument("--password")
    options = parser.parse_args()
    Gst.init(None)
    feed = Feed(options)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(f"( {SOURCE} ! videoconvert ! {ENCODERS[options.codec]} )")
    factory.set_shared(True)
    factory.connect("media-configure", feed.configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    if options.password:
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "user")
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic("user", options.password), token)
        server.set_auth(auth)
        factory.add_role_from_structure(
            Gst.Structure.from_string("user, media.factory.access=true, media.factory.construct=true")[0]
        )
    server.get_mount_points().add_factory("/stream", factory)
    server.attach(None)
    sys.stdout.write(f"{server.get_bound_port()}\n")
    sys.stdout.flush()
    loop = GLib.MainLoop()
    threading.Thread(target=_obey, args=(feed, loop), daemon=True).start()
    loop.run()


def _size(text: str) -> tuple[int, int]:
    width, height = map(int, text.split("x"))
    return width, height


def _obey(feed: Feed, loop: GLib.MainLoop) -> None:
    for line in sys.stdin:
        command, _, value = line.strip().partition(" ")
        if command == "size":
            feed.size = _size(value)
        else:
            feed.paused = command == "pause"
    loop.quit()


if __name__ == "__main__":
    main()
