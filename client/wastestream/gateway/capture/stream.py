"""A stream read by FFmpeg: its packets, their times, and the sentence for why it cannot be read."""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Final

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from wastestream.gateway.capture.timeline import Place, Timeline
from wastestream.gateway.errors import SourceError
from wastestream.gateway.source import Kind, Source

_OPEN_SECONDS: Final = 10.0
_READ_SECONDS: Final = 10.0

_KEY_FRAME_SECONDS: Final = 20.0
"""Seconds to wait for a first key frame. A stream without any renews its pictures in pieces."""

_FORMATS: Final = {Kind.RTSP: "rtsp", Kind.HTTP: "mpjpeg", Kind.DEVICE: "video4linux2"}
"""Formats that are not guessed: a stranger's address cannot make FFmpeg read other files or addresses."""

_AT_ONCE: Final = {"probesize": "32", "analyzeduration": "0", "fpsprobesize": "0"}
"""Options against a second of frames that FFmpeg would keep back in order to guess a rate."""

_CONTAINERS: Final = (
    "3g2,3gp,asf,avi,flv,h264,hevc,m4a,matroska,mj2,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nut,ogg,webm,"
    "yuv4mpegpipe"
)

_OPTIONS: Final[dict[Kind, dict[str, str]]] = {
    Kind.RTSP: {"rtsp_transport": "tcp", **_AT_ONCE},
    Kind.HTTP: {"strict_mime_boundary": "0", **_AT_ONCE},
    Kind.DEVICE: {"input_format": "mjpeg"},
    # A playlist with the name of a video cannot make FFmpeg read other files either.
    Kind.FILE: {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS},
}

_CLOCK_SET: Final = 946_684_800.0
"""Seconds since 1970 before which a file's clock was not set, or its maker writes no time: the year 2000."""

_PRODUCED: Final = struct.Struct("=q")  # microseconds since 1970: the begin of AVProducerReferenceTime


@dataclass(frozen=True)
class Picture:
    """One picture of a stream: its packet, and its frame if it was decoded.

    Attributes:
        place: its place in time.
        number: its place among the stream's pictures.
        packet: MJPEG, if the stream is that.
        frame: decoded, unless the stream is MJPEG.
    """

    place: Place
    number: int
    packet: bytes
    frame: VideoFrame | None


class Stream:
    """An open stream.

    Args:
        source: where it is.
        options: further options of FFmpeg.

    Raises:
        SourceError: it cannot be opened.
    """

    def __init__(self, source: Source, options: Mapping[str, str]) -> None:
        self._source = source
        all_options = {**_OPTIONS[source.kind], **options}
        try:
            self._container: InputContainer = av.open(
                source.address,
                "r",
                format=_FORMATS.get(source.kind),
                options=all_options,
                timeout=(_OPEN_SECONDS, _READ_SECONDS),
            )
            video = self._container.streams.best("video")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SourceError(_sentence(source, error)) from None
        if not isinstance(video, VideoStream):
            raise SourceError(f"{source} has no video.")
        self._video = video
        self._video.codec_context.thread_count = 1  # cameras share few cores, and threads add delay
        self._timeline = Timeline(time.time())
        self._decodable_from = time.monotonic() + _KEY_FRAME_SECONDS
        self._decodable = False
        self._begin = _begin_of_file(source, self._container) if source.kind is Kind.FILE else 0.0

    @property
    def is_mjpeg(self) -> bool:
        """Whether each packet is a JPEG picture."""
        return self.codec == "mjpeg"

    @property
    def codec(self) -> str:
        """Name of its codec."""
        return self._video.codec_context.name

    @property
    def camera_skew(self) -> float:
        """See `Timeline`."""
        return self._timeline.camera_skew

    def pictures(self) -> Iterator[Picture]:
        """Yield the pictures as they come, without damaged ones.

        Raises:
            SourceError: the stream broke off. A file has an end, a stream has none.
        """
        number = 0
        try:
            for packet in self._container.demux(self._video):
                reported = _reported(packet)
                for pts, content, frame in self._decoded(packet):
                    yield Picture(self._place(pts, reported), number, content, frame)
                    number += 1
        except (av.error.FFmpegError, OSError) as error:
            raise SourceError(_sentence(self._source, error)) from None
        if self._source.kind is not Kind.FILE:
            raise SourceError(f"{self._source} ended the stream.")

    def decode(self, picture: Picture) -> VideoFrame | None:
        """Return the frame of a picture; None if it is damaged."""
        if picture.frame is not None:
            return picture.frame
        try:
            frames = self._video.codec_context.decode(Packet(picture.packet))
        except av.error.FFmpegError:
            return None
        return frames[0] if frames and not frames[0].is_corrupt else None

    def _decoded(
        self, packet: Packet[VideoStream]
    ) -> Iterator[tuple[float | None, bytes, VideoFrame | None]]:
        """Yield time stamp, MJPEG and frame of a packet's pictures."""
        if self.is_mjpeg:
            if packet.size:
                yield _seconds(packet), bytes(packet), None
            return
        try:
            frames = packet.decode()
        except (av.error.InvalidDataError, av.error.PatchWelcomeError):
            return  # It is damaged, and so are those until the next key frame; the watchdog counts on them.
        for frame in frames:
            self._decodable |= bool(frame.key_frame) or time.monotonic() > self._decodable_from
            if self._decodable and not frame.is_corrupt:
                yield _seconds(frame), b"", frame

    def _place(self, pts: float | None, reported: float | None) -> Place:
        if self._source.kind is Kind.FILE:
            position = pts or 0.0
            return Place(position, self._begin + position)
        if self._source.kind is Kind.HTTP:
            pts = None  # The parts have no times: FFmpeg makes some up, at 25 frames a second.
        return self._timeline.place(pts, reported, time.time())


def _seconds(timed: Packet[VideoStream] | VideoFrame) -> float | None:
    return None if timed.pts is None or timed.time_base is None else float(timed.pts * timed.time_base)


def _reported(packet: Packet[VideoStream]) -> float | None:
    """Return the time of capture by RTCP sender reports, which FFmpeg gives to each packet."""
    if not packet.has_sidedata("prft"):
        return None
    (microseconds,) = _PRODUCED.unpack_from(bytes(packet.get_sidedata("prft")))
    return float(microseconds) / 1e6


def _begin_of_file(source: Source, container: InputContainer) -> float:
    """Return the time at which a file's video began: as the file says, or else by its date and length."""
    created = container.metadata.get("creation_time", "")
    with suppress(ValueError):  # It says nothing, or nonsense.
        began = datetime.fromisoformat(created.replace("Z", "+00:00"))
        seconds = began.replace(tzinfo=began.tzinfo or timezone.utc).timestamp()
        if _CLOCK_SET < seconds < time.time():
            return seconds
    length = (container.duration or 0) / av.time_base
    return Path(source.address).stat().st_mtime - length


_REASONS: Final[tuple[tuple[tuple[type[Exception], ...], str], ...]] = (
    (
        (av.error.HTTPUnauthorizedError,),
        "asks for a name and password, or rejects them; put them into the address",
    ),
    (
        (av.error.HTTPForbiddenError, PermissionError),
        "may not be read; check the rights of the name, or of the file",
    ),
    ((av.error.HTTPNotFoundError,), "has nothing at this path; look it up in the camera's manual"),
    ((FileNotFoundError,), "is not there"),
    (
        (av.error.ExitError, TimeoutError),
        "does not answer; check the cable, the power and the address",
    ),
    ((ConnectionRefusedError,), "refuses connections; check that the camera is on, and the port"),
    ((av.error.InvalidDataError,), "sends no video that can be read"),
)


def _sentence(source: Source, error: Exception) -> str:
    """Return why a source cannot be read. The error's own text has the address, perhaps with a password."""
    for kinds, reason in _REASONS:
        if isinstance(error, kinds):
            return f"{source} {reason}."
    reason = getattr(error, "strerror", None) or "the address cannot be used"
    return f"{source} cannot be read: {reason}."
