"""The gateway: cameras, spool and sender, started, watched and stopped together."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from wastestream.connect import connect
from wastestream.errors import ProxyError
from wastestream.gateway.camera import Camera
from wastestream.gateway.clock import MAX_SKEW, ServerClock
from wastestream.gateway.config import Camera as CameraConfig
from wastestream.gateway.config import Config
from wastestream.gateway.errors import ConfigError, TriggerError
from wastestream.gateway.folder_camera import FolderCamera
from wastestream.gateway.intake import Intake
from wastestream.gateway.reporter import Reporter
from wastestream.gateway.sender import Sender
from wastestream.gateway.source import Kind
from wastestream.gateway.spool import Limits, Spool
from wastestream.gateway.stream_camera import StreamCamera
from wastestream.retry import Retry
from wastestream.transport import BlockingTransport, run

logger = logging.getLogger(__name__)

_TICK: Final = 0.5  # seconds between two looks at the cameras
_TIDY: Final = 5.0  # seconds
_STOP: Final = 10.0  # seconds for a thread to end; nothing is lost if it does not
_DAY: Final = 86_400.0
_GB: Final = 10**9


class Gateway:
    """Reads the cameras of a configuration and sends their frames.

    Args:
        config: the configuration.

    Raises:
        ConfigError: the API key or the server's address cannot be used.
        SpoolError: the spool cannot be used.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.clock = ServerClock()
        try:
            self._calls = connect(BlockingTransport, config.server, _key(config), None, Retry(0, 0))
        except (ValueError, ProxyError) as error:
            raise ConfigError(str(error)) from error
        limits = Limits(round(config.spool.max_gb * _GB), config.spool.max_days * _DAY)
        self.spool = Spool(config.spool.folder, limits)
        self.sender = Sender(self.spool, self._calls, self.clock, config.spool.backfill)
        self._intake = Intake(self.spool)
        self._reporter = Reporter(
            self.spool, self._calls, self.clock, config.site, lambda: dict(self.cameras)
        )
        self.cameras: dict[str, Camera] = {}
        self._stopped = threading.Event()
        self._failed = False

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run; stop at the end, when what was sampled is safe."""
        intake = self._start(self._intake.run, "intake")
        lanes = [self._start(lane, "sender") for lane in self.sender.lanes]
        reporter = self._start(self._reporter.run, "reporter")
        self.reload(self.config)
        watch = self._start(self._watch, "watch")
        try:
            yield
        finally:
            self.stop()
            self.sender.stop()
            for camera in self.cameras.values():
                camera.stop()
            for camera in self.cameras.values():
                camera.join(_STOP)
            self._intake.close()
            for thread in (intake, watch, *lanes):
                thread.join(_STOP)
            self._reporter.stop()
            reporter.join(_STOP)
            run(self._calls.transport.close())
            self.spool.close()

    def wait(self, timeout: float) -> bool:
        """Return whether `stop` was called, as soon as it was, or after some seconds."""
        return self._stopped.wait(timeout)

    def stop(self) -> None:
        """End `wait`."""
        self._stopped.set()

    @property
    def healthy(self) -> bool:
        """Whether every thread runs."""
        return not self._failed

    def reload(self, config: Config) -> None:
        """Read the cameras of another configuration; those that are the same go on undisturbed."""
        wanted = {camera.id: camera for camera in config.cameras}
        kept = {name: camera for name, camera in self.cameras.items() if wanted.get(name) == camera.config}
        gone = [camera for name, camera in self.cameras.items() if name not in kept]
        for camera in gone:
            camera.stop()
        for camera in gone:
            camera.join(_STOP)
        new = {name: self._make(camera) for name, camera in wanted.items() if name not in kept}
        for camera in new.values():
            camera.start()
        self.cameras = kept | new  # Other threads look at it: it is replaced, never changed.
        fixed = {"cameras": self.config.cameras}
        if config.model_copy(update=fixed) != self.config:
            logger.warning("Changes beside the cameras take effect when the gateway is started again.")
        self.config = self.config.model_copy(update={"cameras": config.cameras})

    def trigger(self, camera: str) -> str:
        """Take a frame of a camera now, and return its id when it is safe.

        Raises:
            TriggerError: there is no such camera, or it has no frame.
        """
        if camera not in self.cameras:
            raise TriggerError(f"There is no camera {camera[:64]!r}.")
        return self.cameras[camera].trigger()

    def _make(self, config: CameraConfig) -> Camera:
        kind = FolderCamera if config.source.kind is Kind.FOLDER else StreamCamera
        return kind(config, self._intake, self.spool)

    def _watch(self) -> None:
        """Look after the cameras and the spool."""
        tidied = time.monotonic()
        skewed = False
        while not self._stopped.wait(_TICK):
            for camera in list(self.cameras.values()):
                camera.check()
                if not camera.alive and not self._stopped.is_set():
                    raise RuntimeError(f"The thread of the camera {camera.config.id!r} has ended.")
            if time.monotonic() - tidied > _TIDY:
                self.spool.tidy()
                tidied = time.monotonic()
            skew = self.clock.skew()
            if skewed != (abs(skew) > MAX_SKEW):
                skewed = not skewed
                self._report_skew(skew)

    def _report_skew(self, skew: float) -> None:
        if abs(skew) > MAX_SKEW:
            direction = "ahead of" if skew > 0 else "behind"
            logger.error(
                "This machine's clock is %.0f s %s the server's; frames get times by the server's. "
                "Set the clock (NTP).",
                abs(skew),
                direction,
            )
        else:
            logger.warning("This machine's clock agrees with the server's again.")

    def _start(self, target: Callable[[], None], name: str) -> threading.Thread:
        """Start a thread whose failure stops the gateway: its supervisor starts it again."""

        def guarded() -> None:
            try:
                target()
            except Exception:
                logger.exception("The gateway's part %r failed; it stops.", name)
                self._failed = True
                self.stop()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread


def _key(config: Config) -> str | None:
    """Return the API key, if there is one.

    Raises:
        ConfigError: its file cannot be read.
    """
    if config.key_file is None:
        return os.environ.get("WASTESTREAM_API_KEY") or None
    try:
        return config.key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"key_file: {config.key_file} cannot be read ({error}).") from error
