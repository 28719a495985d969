"""Frames, and the file that keeps one of them: a line of JSON about it, then its bytes."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Final

from wastestream.gateway import clock
from wastestream.gateway.clock import Stamp

_MAX_HEADER: Final = 4096  # bytes


class DamagedFrameError(ValueError):
    """Raised when a file is not the whole file of a frame."""


@dataclass(frozen=True)
class Frame:
    """One sampled picture.

    Attributes:
        id: unique; its idempotency key at the server.
        camera: id of the camera.
        stamp: when it was captured.
        data: bytes of the image.
        kept: when it was sampled; long after it was captured if it comes from a file.
        file: path of the file that it came from, and how far that was read with it; None without one.
    """

    id: str
    camera: str
    stamp: Stamp
    data: bytes
    kept: Stamp = field(default_factory=clock.stamp)
    file: tuple[str, str] | None = None

    @property
    def hour(self) -> str:
        """The hour in which it counts."""
        return hour_of(self.stamp.wall)

    def to_file(self) -> bytes:
        """Return the bytes of its file."""
        header = {
            "id": self.id,
            "camera": self.camera,
            "wall": self.stamp.wall,
            "boot": self.stamp.boot,
            "elapsed": self.stamp.elapsed,
            "kept_wall": self.kept.wall,
            "kept_elapsed": self.kept.elapsed,
            "file": self.file,
            "size": len(self.data),
            "crc32": zlib.crc32(self.data),
        }
        return json.dumps(header).encode() + b"\n" + self.data


def from_file(content: bytes) -> Frame:
    """Return the frame of a file.

    Raises:
        DamagedFrameError: the file was not written to its end, or is another one.
    """
    end = content.find(b"\n", 0, _MAX_HEADER)
    data = content[end + 1 :]
    try:
        header: dict[str, Any] = json.loads(content[: max(0, end)])
        whole = header["size"] == len(data) and header["crc32"] == zlib.crc32(data)
        frame = Frame(
            header["id"],
            header["camera"],
            Stamp(header["wall"], header["boot"], header["elapsed"]),
            data,
            Stamp(header["kept_wall"], header["boot"], header["kept_elapsed"]),
            None if header["file"] is None else (header["file"][0], header["file"][1]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedFrameError("its first line describes no frame") from error
    if not whole:
        raise DamagedFrameError("its bytes are not those that were written")
    return frame


def hour_of(seconds: float) -> str:
    """Return the hour (UTC) of seconds since 1970, such as `2026-01-31T07:00:00Z`."""
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%dT%H:00:00Z}"
