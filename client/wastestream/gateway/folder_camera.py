"""Folders into which somebody else puts pictures and videos: NVRs, SD cards, FTP servers."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import stat as modes
import time
from collections.abc import Collection
from pathlib import Path
from typing import Final

from watchfiles import watch

from wastestream.gateway.camera import Camera
from wastestream.gateway.clock import stamp
from wastestream.gateway.config import Camera as CameraConfig
from wastestream.gateway.counts import Fate
from wastestream.gateway.frames import Frame
from wastestream.gateway.intake import Intake
from wastestream.gateway.spool import Spool
from wastestream.gateway.video_file import VideoFile, is_video
from wastestream.images import MAX_BYTES

logger = logging.getLogger(__name__)

DONE: Final = "done"
"""Folder inside the watched one for files whose frames are safe."""

_POLL: Final = 10.0
"""Seconds after which the whole folder is read again: network file systems send no events."""

_QUIET_MS: Final = 100
"""Milliseconds without an event after which those before are looked at."""

_UNFINISHED: Final = 60.0
"""Seconds without a change after which a file without an end is a broken one."""

_REFUSED: Final = "refused "

_LONGEST_START: Final = 8

_STARTS: Final = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"RIFF": "webp"}


class FolderCamera(Camera):
    """Takes pictures and frames of videos from a folder and those below it.

    Args:
        config: the camera.
        intake: takes its frames.
        spool: knows which files were read.
    """

    def __init__(self, config: CameraConfig, intake: Intake, spool: Spool) -> None:
        super().__init__(config)
        self._folder = Path(config.source.address)
        self._intake = intake
        self._spool = spool
        self._known: dict[str, str] = {}
        self._passed_by: set[str] = set()
        self._video: VideoFile | None = None

    def stop(self) -> None:
        """See `Camera.stop`."""
        super().stop()
        if self._video is not None:
            self._video.stop()

    def check(self) -> None:
        """See `Camera.check`; also end the process of a video that hangs or is too large."""
        super().check()
        if self._video is not None:
            self._video.check()

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._watch()
            except OSError as error:  # noqa: PERF203 - a card is pulled out, a share is away
                detail = f"{self._folder} cannot be read: {error.strerror}"
                if detail != self.health.detail:
                    logger.error("%s.", detail, extra=self._extra)  # noqa: TRY400 - a sentence
                self.health.detail = detail
                self._stopped.wait(_POLL)

    def _watch(self) -> None:
        """Look at the whole folder now and then, and in between at files that change."""
        if not self._folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, "there is no such folder")
        self._known = self._spool.files(self.config.id)
        changes = watch(
            self._folder,
            watch_filter=None,
            step=_QUIET_MS,
            debounce=5 * _QUIET_MS,
            stop_event=self._stopped,
            rust_timeout=round(_POLL * 1000),
            yield_on_timeout=True,
            raise_interrupt=False,
        )
        self._look_at(self._all_files(), whole=True)
        looked = time.monotonic()
        for change in changes:
            whole = time.monotonic() - looked > _POLL
            files = self._all_files() if whole else {Path(path) for _, path in change}
            self._look_at(files, whole=whole)
            looked = time.monotonic() if whole else looked

    def _all_files(self) -> set[Path]:
        return {
            Path(folder, name) for folder, _, names in os.walk(self._folder, onerror=_raise) for name in names
        }

    def _look_at(self, files: Collection[Path], *, whole: bool) -> None:
        """Take those of some files, or of all, that are complete and were not taken before."""
        for path in sorted((file for file in files if self._is_ours(file)), key=_age):
            if self._stopped.is_set():
                return
            try:
                self._look_at_one(path)
            except FileNotFoundError:
                continue
            except PermissionError:
                self._pass_by(path, "may not be read, or not moved or deleted")
        if whole:
            paths = {str(path) for path in files}
            self._known = {path: mark for path, mark in self._known.items() if path in paths}
            self._spool.keep_files(self.config.id, paths)
            self._passed_by &= paths
            self.health.detail = f"{len(files)} files"

    def _is_ours(self, path: Path) -> bool:
        inner = path.relative_to(self._folder).parts
        moved = self.config.done == "move" and inner[0] == DONE
        return not moved and not any(part.startswith(".") for part in inner)

    def _look_at_one(self, path: Path) -> None:
        status = path.stat()
        mark = f"{status.st_mtime_ns} {status.st_size}"
        known = self._known.get(str(path))
        if known == mark:
            self._finish(path)  # The gateway was stopped before it could.
        elif known != _REFUSED + mark and modes.S_ISREG(status.st_mode):
            take = self._take_video if is_video(path) else self._take
            take(path, status, mark)

    def _take_video(self, path: Path, status: os.stat_result, mark: str) -> None:
        """Sample a video, whose end nothing shows: nobody may have written to it for a while."""
        if time.time() - status.st_mtime <= _UNFINISHED:
            return
        self._video = VideoFile(self.config, path, self._intake, self._spool, self._hear)
        if self._stopped.is_set():  # `stop` may have come before there was a video to stop.
            return
        if self._video.read():
            self._spool.note_file(self.config.id, str(path), mark)
            self._known[str(path)] = mark
            self._finish(path)
        elif not self._stopped.is_set():
            self._refuse(path, status, mark, f"cannot be read ({self._video.health.detail})")
        self._video = None

    def _take(self, path: Path, status: os.stat_result, mark: str) -> None:
        resting = time.time() - status.st_mtime > _UNFINISHED
        with path.open("rb") as file:
            kind = _kind(file.read(_LONGEST_START))
            if kind is None and status.st_size >= _LONGEST_START:
                self._pass_by(path, "is no picture (JPEG, PNG or WebP), nor is its name that of a video")
                return
            if status.st_size > MAX_BYTES:
                if resting:
                    self._refuse(path, status, mark, f"has more than {MAX_BYTES:,} bytes")
                return
            file.seek(0)
            data = file.read(MAX_BYTES)
        if kind is None or not _is_complete(kind, data):
            if resting:
                self._refuse(path, status, mark, "is empty, or its end is missing")
            return
        identity = hashlib.sha256(f"{self.config.id}\n{path}\n{mark}".encode()).hexdigest()
        captured_at = min(status.st_mtime, time.time())
        frame = Frame(identity[:32], self.config.id, stamp(captured_at), data, file=(str(path), mark))
        self._intake.put(frame).wait()
        self._known[str(path)] = mark
        self._hear(captured_at)
        self._finish(path)

    def _pass_by(self, path: Path, reason: str) -> None:
        """Leave a file that is none of ours."""
        if str(path) not in self._passed_by:
            self._passed_by.add(str(path))
            logger.warning("%s %s; it stays.", path, reason, extra=self._extra)

    def _refuse(self, path: Path, status: os.stat_result, mark: str, reason: str) -> None:
        """Count a broken file once, and leave it."""
        logger.warning("%s %s; it stays.", path, reason, extra=self._extra)
        self._spool.count(self.config.id, status.st_mtime, Fate.REFUSED)
        self._known[str(path)] = _REFUSED + mark
        self._spool.note_file(self.config.id, str(path), _REFUSED + mark)

    def _finish(self, path: Path) -> None:
        """Do with a file whose frame is safe what the configuration says."""
        if self.config.done == "delete":
            path.unlink()
        elif self.config.done == "move":
            target = self._folder / DONE / path.relative_to(self._folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            path.replace(target)


def _kind(data: bytes) -> str | None:
    return next((kind for start, kind in _STARTS.items() if data.startswith(start)), None)


def _is_complete(kind: str, data: bytes) -> bool:
    """Return whether a file has its end. Some cameras write a few bytes after that of a JPEG."""
    if kind == "jpeg":
        return data.rfind(b"\xff\xd9", max(0, len(data) - 1024)) >= 0
    if kind == "png":
        return data.endswith(b"IEND\xae\x42\x60\x82")
    return data[8:12] == b"WEBP" and len(data) >= 8 + int.from_bytes(data[4:8], "little")


def _age(path: Path) -> tuple[float, Path]:
    """Return what sorts files by time."""
    try:
        return path.stat().st_mtime, path
    except OSError:  # It is gone already.
        return 0.0, path


def _raise(error: OSError) -> None:
    raise error
