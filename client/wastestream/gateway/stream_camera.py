"""Cameras whose streams FFmpeg reads, in a process that is ended and started again when it must be."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final

from wastestream.gateway.camera import Camera, State
from wastestream.gateway.capture.order import Order
from wastestream.gateway.capture.records import Kind, Record, read
from wastestream.gateway.clock import stamp
from wastestream.gateway.config import Camera as CameraConfig
from wastestream.gateway.counts import Fate
from wastestream.gateway.errors import TriggerError
from wastestream.gateway.frames import Frame
from wastestream.gateway.intake import Intake
from wastestream.gateway.source import Kind as SourceKind
from wastestream.gateway.spool import Spool
from wastestream.images import MAX_BYTES

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 1.0  # seconds
_LONGEST_PAUSE: Final = 60.0
_HEALTHY: Final = 30.0
"""Seconds of frames after which the next failure counts as the first."""

_OPENING: Final = 25.0
"""Seconds in which a source must open: FFmpeg may wait 10 s twice."""

_TRIGGER_SECONDS: Final = 5.0

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MB: Final = 1_000_000


class StreamCamera(Camera):
    """Reads a stream, a device or a video file.

    Args:
        config: the camera.
        intake: takes its frames.
        spool: counts those that are not kept.
    """

    def __init__(self, config: CameraConfig, intake: Intake, spool: Spool) -> None:
        super().__init__(config)
        self._intake = intake
        self._spool = spool
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._opened: float | None = None
        self._ending = False
        self._description = ""
        self._triggering = threading.Lock()
        self._triggered: list[Frame] = []
        self._has_triggered = threading.Condition()
        self._fails = 0
        self._latest: threading.Event | None = None

    def stop(self) -> None:
        """See `Camera.stop`."""
        super().stop()
        self._kill()

    def check(self) -> None:
        """See `Camera.check`; also end a process that is silent or too large."""
        super().check()
        process = self._process
        if process is None or process.poll() is not None:
            return
        now = time.monotonic()
        if self._opened is None:
            silent = now - self._began > _OPENING
        else:
            silent = now - max(self._opened, self._heard) > self.config.silence
        if silent:
            self._end(f"{self.config.source} sends no frames")
        elif _memory(process.pid) > self.config.max_memory_mb * _MB:
            self._end(f"its process has more than {self.config.max_memory_mb} MB")

    def trigger(self) -> str:
        """See `Camera.trigger`."""
        with self._triggering, self._has_triggered:
            self._triggered.clear()
            process = self._process
            if process is None or process.stdin is None or self.health.state is not State.LIVE:
                raise TriggerError(f"The camera {self.config.id!r} sends no frames now: {self.health.detail}")
            with suppress(OSError):  # It has just ended, so nothing comes.
                process.stdin.write(b"trigger\n")
                process.stdin.flush()
            if not self._has_triggered.wait_for(lambda: self._triggered, _TRIGGER_SECONDS):
                raise TriggerError(
                    f"The camera {self.config.id!r} sent no frame in {_TRIGGER_SECONDS:.0f} s."
                )
            return self._triggered[0].id

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._read()
            if self.health.state is State.ENDED:
                self._stopped.wait()
            elif not self._stopped.is_set():
                self.health.restarts += 1
                self._stopped.wait(self._pause())

    def _pause(self) -> float:
        """Return the seconds before the source is started again: more and more while it fails."""
        healthy = time.monotonic() - self._began > _HEALTHY and self._heard > self._began
        self._fails = 1 if healthy else self._fails + 1
        doubled: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._fails - 1, 10))
        return doubled * random.uniform(0.75, 1.0)  # noqa: S311 - jitter

    def _read(self) -> None:
        """Run a process, and take what it sends until it ends."""
        command = [sys.executable, "-P", "-m", "wastestream.gateway.capture"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._began, self._opened, self._ending = time.monotonic(), None, False
        self._process = subprocess.Popen(  # noqa: S603 - this Python
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # what libraries print there may have the address
            env=environment,
        )
        if self._stopped.is_set():  # `stop` may have come before there was a process to kill.
            self._kill()
        with self._process as process:
            if process.stdin is None or process.stdout is None:
                raise RuntimeError("A process without pipes.")
            with suppress(OSError):  # It has ended already; the exit code says so.
                process.stdin.write(self._order().to_line())
                process.stdin.flush()
            for record in read(process.stdout):
                self._take(record)
            expected = self._ending
            self._kill()
        if not expected:
            self._note(f"the process of {self.config.source} ended (exit code {process.returncode})")

    def _take(self, record: Record) -> None:
        if record.kind is Kind.FRAME:
            self._take_frame(record)
        elif record.kind is Kind.SKIPPED:
            self._spool.count(self.config.id, record.captured_at, Fate.SKIPPED)
            self._hear(record.captured_at)
        elif record.kind is Kind.DROPPED:
            self._spool.count(self.config.id, record.captured_at, Fate.DROPPED)
        elif record.kind is Kind.ALIVE:
            self._hear()
        elif record.kind is Kind.OPENED:
            self._opened = time.monotonic()
            self._description = record.detail
            logger.info("The stream is %s.", record.detail, extra=self._extra)
        elif record.kind is Kind.ENDED:
            self._ending = True
            self.health.state = State.ENDED
            logger.info("The file is at its end.", extra=self._extra)
        else:
            self._ending = True
            self._note(record.detail.rstrip("."))

    def _hear(self, captured_at: float | None = None) -> None:
        super()._hear(captured_at)
        self.health.detail = self._description

    def _take_frame(self, record: Record) -> None:
        self._hear(record.captured_at)
        file = None
        if self.config.source.kind is SourceKind.FILE:
            file = self._file(record.number)
            if file is None:
                return
        if len(record.data) > MAX_BYTES:
            self._spool.count(self.config.id, record.captured_at, Fate.REFUSED)
            logger.warning("A frame has more than %d bytes.", MAX_BYTES, extra=self._extra)
            return
        captured_at = stamp(record.captured_at)
        frame = Frame(uuid.uuid4().hex, self.config.id, captured_at, record.data, file=file)
        self._latest = safe = self._intake.put(frame)
        if record.triggered:
            safe.wait()
            with self._has_triggered:
                self._triggered.append(frame)
                self._has_triggered.notify_all()

    def _wait_until_safe(self) -> None:
        """Return when all frames so far are safe: they become so in their order."""
        if self._latest is not None:
            self._latest.wait()

    def _file(self, number: int) -> tuple[str, str] | None:
        """Return path and mark of a video file up to a picture; None if an earlier run had the picture."""
        path = self.config.source.address
        status = Path(path).stat()
        version = hashlib.sha256(f"{status.st_mtime_ns} {status.st_size}".encode()).hexdigest()
        known, _, last = (self._spool.mark_of(self.config.id, path) or "").partition(" ")
        if known == version and number <= int(last):
            return None
        return path, f"{version} {number}"

    def _order(self) -> Order:
        config = self.config
        crop, similar = config.crop, config.skip_similar
        return Order(
            address=config.source.address,
            fps=config.fps,
            crop=None if crop is None else (crop.x, crop.y, crop.width, crop.height),
            rotate=config.rotate,
            quality=config.quality,
            similar=None if similar is None else (similar.difference, similar.every),
            options={name: str(value) for name, value in config.options.items()},
        )

    def _end(self, reason: str) -> None:
        self._note(f"{reason}; it is started again")
        self._kill()

    def _kill(self) -> None:
        self._ending = True
        if self._process is not None:
            self._process.kill()  # It holds nothing that would be lost, and may hang.

    def _note(self, detail: str) -> None:
        if detail != self.health.detail:
            logger.error("%s.", detail, extra=self._extra)
        self.health.detail = detail


def _memory(pid: int) -> int:
    """Return the bytes of a process in memory; 0 if it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0
