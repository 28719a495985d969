"""`python -m wastestream.gateway.capture`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import BinaryIO, Final

import av.logging
from av.video.frame import VideoFrame

from wastestream.gateway.capture.jpeg import complete
from wastestream.gateway.capture.order import Order, from_line
from wastestream.gateway.capture.outbox import Outbox
from wastestream.gateway.capture.picture import Encoder, Similarity
from wastestream.gateway.capture.records import Kind, Record
from wastestream.gateway.capture.sampler import Sampler
from wastestream.gateway.capture.stream import Picture, Stream
from wastestream.gateway.errors import SourceError

_ALIVE_SECONDS: Final = 0.5


class Capture:
    """Reads a stream and sends what is sampled of it."""

    def __init__(self, order: Order, outbox: Outbox) -> None:
        self._order = order
        self._outbox = outbox
        self._sampler = Sampler(order.fps)
        self._encoder = Encoder(order.crop, order.rotate, order.quality)
        self._similarity = Similarity(*order.similar) if order.similar else None
        self._untouched = order.crop is None and not order.rotate
        self._description = ""
        self._told = 0.0
        self.triggered = threading.Event()

    def run(self) -> None:
        """Send records until the stream ends.

        Raises:
            SourceError: it cannot be opened or read.
        """
        stream = Stream(self._order.source, self._order.options)
        self._describe(stream)
        for picture in stream.pictures():
            fresh = picture.place.fresh
            wanted = fresh and self._sampler.wants(picture.place.position)
            triggered = fresh and self.triggered.is_set()
            if wanted or triggered:
                whole = self._send(stream, picture, triggered=triggered)
            else:
                whole = picture.frame is not None or complete(picture.packet) is not None
            if whole:
                self._tell(stream, picture)
        self._outbox.put(Record(Kind.ENDED))

    def _send(self, stream: Stream, picture: Picture, *, triggered: bool) -> bool:
        """Send a sampled picture; return False if it is damaged."""
        frame = None
        if not (stream.is_mjpeg and self._untouched and self._similarity is None):
            frame = stream.decode(picture)
            if frame is None:
                return False
            self._describe(stream, frame)
        captured_at, number = picture.place.captured_at, picture.number
        if (
            frame is not None
            and self._similarity is not None
            and self._similarity.skips(frame)
            and not triggered
        ):
            self._outbox.put(Record(Kind.SKIPPED, captured_at, number))
            return True
        if stream.is_mjpeg and self._untouched:
            data = complete(picture.packet)
        else:
            data = None if frame is None else self._encoder.encode(frame)
        if data is None:
            return False
        if triggered:
            self.triggered.clear()
        self._outbox.put(Record(Kind.FRAME, captured_at, number, triggered, data=data))
        return True

    def _tell(self, stream: Stream, picture: Picture) -> None:
        """Tell now and then that frames come."""
        now = time.monotonic()
        if now - self._told >= _ALIVE_SECONDS:
            self._told = now
            if picture.frame is not None:
                self._describe(stream, picture.frame)
            self._outbox.put(Record(Kind.ALIVE, picture.place.captured_at))

    def _describe(self, stream: Stream, frame: VideoFrame | None = None) -> None:
        """Tell what the stream is, when that changes."""
        size = "" if frame is None else f"{frame.width}x{frame.height}"
        skew = stream.camera_skew
        clock = f"; the camera's clock is {skew:+.0f} s wrong and not used" if skew else ""
        description = " ".join(filter(None, [stream.codec, size])) + clock
        if description != self._description:
            self._description = description
            self._outbox.put(Record(Kind.OPENED, detail=description))


def main() -> None:
    """Obey one order."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which ends this process.
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # Whatever a library prints is no record.
    av.logging.set_level(None)  # FFmpeg would write addresses, with passwords.
    order = from_line(source.readline())
    outbox = Outbox(target, drop=order.source.kind.live)
    capture = Capture(order, outbox)
    threading.Thread(target=_obey, args=(source, capture), daemon=True).start()
    code = 0
    try:
        capture.run()
    except SourceError as error:
        outbox.put(Record(Kind.FAILED, detail=str(error)))
        code = 1
    except Exception as error:  # noqa: BLE001 - its text may have the address
        outbox.put(Record(Kind.FAILED, detail=f"{order.source} cannot be read: {type(error).__name__}."))
        code = 1
    outbox.close()
    os._exit(code)  # FFmpeg may hang when it closes a dead stream.


def _obey(source: BinaryIO, capture: Capture) -> None:
    """Pass triggers on; end the process when the gateway has ended."""
    for _ in source:
        capture.triggered.set()
    os._exit(0)


if __name__ == "__main__":
    main()
