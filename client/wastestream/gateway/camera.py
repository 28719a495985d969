"""A camera as the gateway sees it: its state, and what its reader does for it."""

from __future__ import annotations

import logging
import threading
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from wastestream.gateway.config import Camera as CameraConfig
from wastestream.gateway.errors import TriggerError

logger = logging.getLogger(__name__)


class State(Enum):
    """State of a camera.

    Attributes:
        STARTING: nothing has come yet.
        LIVE: frames come.
        SILENT: no frame has come for longer than there should be none.
        ENDED: the file is at its end.
    """

    STARTING = "starting"
    LIVE = "live"
    SILENT = "silent"
    ENDED = "ended"


@dataclass
class Health:
    """What is known of a camera.

    Attributes:
        state: its state.
        detail: what the stream is, or why there is none.
        last_frame_at: capture of the last frame that was sampled, seconds since 1970; None if there is none.
        restarts: number of times that its source was started again.
    """

    state: State = State.STARTING
    detail: str = ""
    last_frame_at: float | None = None
    restarts: int = 0


class Camera(ABC):
    """Reads one source in a thread of its own.

    Args:
        config: the camera.
    """

    def __init__(self, config: CameraConfig) -> None:
        self.config = config
        self.health = Health()
        self._heard = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=config.id, daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read nothing more; `join` waits for the end."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Return when nothing is read any more, or after some seconds."""
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether its thread runs; it does until `stop`."""
        return self._thread.is_alive()

    def trigger(self) -> str:
        """Take a frame now, and return its id when it is safe.

        Raises:
            TriggerError: there is none.
        """
        raise TriggerError(f"The camera {self.config.id!r} has no stream to take a frame from.")

    def check(self) -> None:
        """Note that the camera is silent, if it is; the gateway calls this now and then."""
        if self.health.state in {State.STARTING, State.LIVE} and self.silent_for > self.config.silence:
            self.health.state = State.SILENT
            logger.error("No frame for %.0f s.", self.silent_for, extra=self._extra)

    @property
    def silent_for(self) -> float:
        """Seconds since something came."""
        return time.monotonic() - self._heard

    @abstractmethod
    def _run(self) -> None:
        """Read until `stop`."""

    def _hear(self, captured_at: float | None = None) -> None:
        """Note that a frame has come, and when it was captured if it was sampled."""
        self._heard = time.monotonic()
        if captured_at is not None:
            self.health.last_frame_at = captured_at
        if self.health.state is not State.LIVE:
            self.health.state = State.LIVE
            logger.info("Frames come.", extra=self._extra)

    @property
    def _extra(self) -> dict[str, str]:
        return {"camera": self.config.id}
