"""Pictures of decoded frames: cropped, turned, compared and encoded."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Final, cast

import av
from av.filter import Graph
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from wastestream.gateway.errors import SourceError

_TRANSPOSE: Final = {90: ["clock"], 180: ["clock", "clock"], 270: ["cclock"]}
_FULL_RANGE: Final = "yuvj420p"
_THUMBNAIL: Final = 32  # pixels of a side
_TIME_BASE: Final = Fraction(1, 1000)


class Encoder:
    """Makes JPEG files of decoded frames, whose size and format may change.

    Args:
        crop: x, y, width and height in pixels; None: the whole frame.
        rotate: degrees, clockwise.
        quality: FFmpeg's scale, 2 (best) to 31.
    """

    def __init__(self, crop: tuple[int, int, int, int] | None, rotate: int, quality: int) -> None:
        self._crop = crop
        self._rotate = rotate
        self._quality = quality
        self._number = 0
        self._input: tuple[int, int, str] | None = None
        self._graph: Graph | None = None
        self._codec: VideoCodecContext | None = None

    def encode(self, frame: VideoFrame) -> bytes:
        """Return a frame as JPEG.

        Raises:
            SourceError: the region is not within the frame.
        """
        self._number += 1  # FFmpeg wants time stamps that grow.
        frame.pts, frame.time_base = self._number, _TIME_BASE
        graph = self._graph_for(frame)
        graph.push(frame)
        picture = cast("VideoFrame", graph.pull())
        packets = self._codec_for(picture).encode(picture)
        return b"".join(bytes(packet) for packet in packets)

    def _graph_for(self, frame: VideoFrame) -> Graph:
        shape = frame.width, frame.height, frame.format.name
        if self._graph is None or shape != self._input:
            self._graph, self._codec, self._input = self._make_graph(frame), None, shape
        return self._graph

    def _make_graph(self, frame: VideoFrame) -> Graph:
        graph = Graph()
        graph.threads = 1
        filters = [("buffer", _described(frame))]
        if self._crop is not None:
            x, y, width, height = self._crop
            if x + width > frame.width or y + height > frame.height:
                raise SourceError(
                    f"The region of {width}x{height} pixels at {x},{y} is not within the camera's picture of "
                    f"{frame.width}x{frame.height}; correct `crop`."
                )
            filters.append(("crop", f"{width}:{height}:{x}:{y}"))
        filters += [("transpose", direction) for direction in _TRANSPOSE.get(self._rotate, [])]
        filters += [("scale", "out_range=pc"), ("format", _FULL_RANGE), ("buffersink", "")]
        contexts = [graph.add(name, arguments or None) for name, arguments in filters]
        for context, following in pairwise(contexts):
            context.link_to(following)
        graph.configure()
        return graph

    def _codec_for(self, picture: VideoFrame) -> VideoCodecContext:
        if self._codec is None:
            codec = av.CodecContext.create("mjpeg", "w")
            codec.width, codec.height, codec.pix_fmt = picture.width, picture.height, _FULL_RANGE
            codec.time_base = _TIME_BASE
            codec.thread_count = 1
            codec.qmin = codec.qmax = self._quality
            codec.open()
            self._codec = codec
        return self._codec


def _described(frame: VideoFrame) -> str:
    base = f"{_TIME_BASE.numerator}/{_TIME_BASE.denominator}"
    return f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:time_base={base}"


class Similarity:
    """Tells whether frames nearly equal the last one that was kept.

    Args:
        difference: mean difference of brightness, 0-255, below which they do.
        every: of so many nearly equal frames in a row, one is kept anyway.
    """

    def __init__(self, difference: float, every: int) -> None:
        self._difference = difference
        self._every = every
        self._kept: bytes | None = None
        self._skipped = 0

    def skips(self, frame: VideoFrame) -> bool:
        """Return whether to skip a frame; one that is not skipped is the last one kept."""
        thumbnail = _thumbnail(frame)
        if self._kept is not None and self._skipped + 1 < self._every:
            total = sum(abs(one - other) for one, other in zip(thumbnail, self._kept, strict=True))
            if total / len(thumbnail) < self._difference:
                self._skipped += 1
                return True
        self._kept, self._skipped = thumbnail, 0
        return False


def _thumbnail(frame: VideoFrame) -> bytes:
    small = frame.reformat(width=_THUMBNAIL, height=_THUMBNAIL, format="gray", interpolation="AREA")
    plane = small.planes[0]
    content = bytes(plane)
    rows = (content[row * plane.line_size :][:_THUMBNAIL] for row in range(_THUMBNAIL))
    return b"".join(rows)
