"""Video files in a folder: each is read once, by a process as a stream is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from wastestream.gateway.camera import State
from wastestream.gateway.config import Camera as CameraConfig
from wastestream.gateway.intake import Intake
from wastestream.gateway.source import Kind, Source
from wastestream.gateway.spool import Spool
from wastestream.gateway.stream_camera import StreamCamera

_SUFFIXES: Final = frozenset(
    f".{name}"
    for name in (
        *("264", "265", "3gp", "asf", "avi", "flv", "h264", "h265", "hevc", "m2ts", "m4v", "mkv", "mov"),
        *("mp4", "mpeg", "mpg", "mts", "ts", "webm", "wmv"),
    )
)

_TRIES: Final = 2


def is_video(path: Path) -> bool:
    """Return whether a file's name is that of a video."""
    return path.suffix.lower() in _SUFFIXES


class VideoFile(StreamCamera):
    """Reads a video file of a folder in the thread of the caller.

    Args:
        config: the camera, whose source is the folder.
        path: the file.
        intake: takes its frames.
        spool: knows up to which frame the file was read.
        hear: called with the time of capture of each frame, or without one while the file is read.
    """

    def __init__(
        self,
        config: CameraConfig,
        path: Path,
        intake: Intake,
        spool: Spool,
        hear: Callable[[float | None], None],
    ) -> None:
        source = Source(str(path), Kind.FILE)
        super().__init__(config.model_copy(update={"source": source}), intake, spool)
        self._tell = hear

    def read(self) -> bool:
        """Return True when every frame is safe, False if the file cannot be read or `stop` was called.

        A file that was read in part before goes on behind the last frame.
        """
        for _ in range(_TRIES):
            self._read()
            if self.health.state is State.ENDED:
                self._wait_until_safe()
                return True
            if self._stopped.wait(self._pause()):
                return False
        return False

    def _hear(self, captured_at: float | None = None) -> None:
        super()._hear(captured_at)
        self._tell(captured_at)
