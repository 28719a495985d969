"""Sends frames from the spool to the server: live ones at once, and the backlog beside them."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Final

from wastestream.calls import Calls
from wastestream.errors import GaveUpError, NotWastestreamError, WastestreamError
from wastestream.gateway.clock import ServerClock
from wastestream.gateway.counts import Fate
from wastestream.gateway.frames import Frame
from wastestream.gateway.index import Order
from wastestream.gateway.spool import Spool
from wastestream.images import Image
from wastestream.jobs import Job
from wastestream.many import GROUP_BYTES, GROUP_FILES
from wastestream.problems import (
    ApiError,
    BodyTooLargeError,
    DamagedImageError,
    EmptyImageError,
    IdempotencyConflictError,
    ImageTooLargeError,
    InvalidTimeError,
    KeyRejectedError,
    MediaTypeMismatchError,
    UnsupportedImageError,
)
from wastestream.transport import run

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.5  # seconds
_LONGEST_PAUSE: Final = 30.0
_KEY_PAUSE: Final = 30.0
_HOLD: Final = 60.0
"""Seconds for which frames of a camera stay that the server does not take from this gateway."""

_IDLE: Final = 0.5  # seconds

_REFUSING: Final = (
    BodyTooLargeError,
    DamagedImageError,
    EmptyImageError,
    ImageTooLargeError,
    InvalidTimeError,
    MediaTypeMismatchError,
    UnsupportedImageError,
)
"""Rejections of the image itself. Frames rejected for anything else wait until an operator puts it right."""


@dataclass(frozen=True)
class Hold:
    """Frames of a camera wait until a moment of the monotonic clock."""

    until: float
    reason: str


class Sender:
    """Sends frames.

    Args:
        spool: where they are.
        calls: of the server; each tries once.
        clock: the server's.
        order: which frames of the backlog go first.
    """

    def __init__(self, spool: Spool, calls: Calls, clock: ServerClock, order: Order) -> None:
        self._spool = spool
        self._calls = calls
        self._clock = clock
        self._order = order
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._resume = 0.0  # on the monotonic clock
        self._failures = 0
        self._live_is_behind = False
        self._holds: dict[str, Hold] = {}
        self.trouble: str | None = None
        """Why the server takes nothing; None while it does."""
        calls.on_answer = lambda response: clock.observe(response.headers.get("Date", ""))

    @property
    def lanes(self) -> tuple[Callable[[], None], Callable[[], None]]:
        """What to run in a thread each."""
        return self._run_live, self._run_backlog

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()

    def held(self) -> dict[str, str]:
        """Return the cameras whose frames wait for an operator, and why."""
        now = time.monotonic()
        with self._lock:
            return {camera: hold.reason for camera, hold in self._holds.items() if hold.until > now}

    def _run_live(self) -> None:
        while self._pause():
            frames = self._spool.take_live(GROUP_FILES, GROUP_BYTES, self.held())
            self._live_is_behind = bool(frames) and not (self._send(frames) and len(frames) < GROUP_FILES)
            if not frames:
                self._spool.wait(_IDLE)

    def _run_backlog(self) -> None:
        while self._pause():
            if self._live_is_behind:
                self._stopped.wait(_IDLE)
                continue
            frames = self._spool.take_backlog(GROUP_FILES, GROUP_BYTES, self._order, self.held())
            if frames:
                self._send(frames)
            else:
                self._stopped.wait(_IDLE)

    def _pause(self) -> bool:
        """Wait until the server may be called; return False if nothing is to be sent any more."""
        while not self._stopped.is_set():
            left = self._resume - time.monotonic()
            if left <= 0:
                return True
            self._stopped.wait(left)
        return False

    def _send(self, frames: Sequence[Frame]) -> bool:
        """Send frames and settle them; return whether the server took the call."""
        fates: dict[str, Fate] = {}
        try:
            for frame, outcome in self._outcomes(frames):
                fate = self._fate(frame, outcome)
                if fate is not None:
                    fates[frame.id] = fate
        except GaveUpError as error:
            self._fail(error.trouble, error.retry_after)
        except KeyRejectedError as error:
            self._fail(f"the API key is rejected: {error}", _KEY_PAUSE)
        except WastestreamError as error:
            self._fail(str(error), None)
        else:
            self._succeed()
            return True
        finally:
            self._spool.settle(fates, frames)
        return False

    def _outcomes(self, frames: Sequence[Frame]) -> list[tuple[Frame, Job | ApiError]]:
        """Upload frames; return what the server says of each. A call that is rejected whole is split."""
        try:
            return self._uploaded(frames)
        except KeyRejectedError:
            raise
        except NotWastestreamError as error:
            # A proxy before the server may allow smaller bodies only.
            if error.status != HTTPStatus.REQUEST_ENTITY_TOO_LARGE or len(frames) == 1:
                raise
        except ApiError as error:
            if len(frames) == 1:
                return [(frames[0], error)]
        half = len(frames) // 2
        return [*self._outcomes(frames[:half]), *self._outcomes(frames[half:])]

    def _uploaded(self, frames: Sequence[Frame]) -> list[tuple[Frame, Job | ApiError]]:
        images = [(self._image(frame), frame.data) for frame in frames]
        if len(images) == 1:
            return [(frames[0], run(self._calls.upload(*images[0])).job)]
        return list(zip(frames, run(self._calls.upload_bulk(images)), strict=True))

    def _image(self, frame: Frame) -> Image:
        captured_at = datetime.fromtimestamp(self._clock.captured_at(frame.stamp), timezone.utc)
        return Image(frame.data, frame.camera, captured_at, idempotency_key=frame.id)

    def _fate(self, frame: Frame, outcome: Job | ApiError) -> Fate | None:
        """Return what became of a frame; None if it waits on."""
        # Nobody else uses the frame's key: the server has had it for so long that it forgot the job.
        if isinstance(outcome, (Job, IdempotencyConflictError)):
            return Fate.ACCEPTED
        if not isinstance(outcome, _REFUSING):
            self._hold(frame.camera, str(outcome))
            return None
        if isinstance(outcome, InvalidTimeError) and self._clock.captured_at(frame.stamp) != frame.stamp.wall:
            return None  # Now the server's clock is known, and the next try has the right time.
        logger.warning(
            "The server refuses a frame: %s", outcome, extra={"camera": frame.camera, "frame": frame.id}
        )
        return Fate.REFUSED

    def _hold(self, camera: str, reason: str) -> None:
        with self._lock:
            known = self._holds.get(camera)
            self._holds[camera] = Hold(time.monotonic() + _HOLD, reason)
        if known is None or known.reason != reason:
            logger.error("The server takes no frames of this camera: %s", reason, extra={"camera": camera})

    def _succeed(self) -> None:
        with self._lock:
            if self.trouble is not None:
                logger.warning("The server takes frames again.")
            self.trouble, self._failures = None, 0

    def _fail(self, trouble: str, retry_after: float | None) -> None:
        with self._lock:
            if self.trouble is None:
                logger.warning("Frames wait: %s.", trouble.rstrip("."))
            self.trouble = trouble
            doubled = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2.0 ** min(self._failures, 10))
            pause = doubled * random.uniform(0.75, 1.25)  # noqa: S311 - jitter
            self._failures += 1
            self._resume = time.monotonic() + max(pause, retry_after or 0.0)
