"""Reports what was counted to the server, which shows it beside its ledger."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

from wastestream.calls import Calls
from wastestream.errors import WastestreamError
from wastestream.gateway.camera import Camera, State
from wastestream.gateway.clock import ServerClock
from wastestream.gateway.counts import Row
from wastestream.gateway.spool import Spool
from wastestream.problems import ApiError
from wastestream.transport import run

logger = logging.getLogger(__name__)

INTERVAL: Final = 10.0
"""Seconds between two reports; the server misses a gateway after 180."""

_MAX_HOURS: Final = 1000  # in one report
_MAX_DETAIL: Final = 500  # characters
_SILENT_AFTER: Final = 15.0  # seconds, of a camera that is no longer read


class Reporter:
    """Sends a report of each camera now and then, with the hours whose counts the server does not have.

    Args:
        spool: has the counts.
        calls: of the server; each tries once.
        clock: the server's.
        site: name of the place.
        cameras: returns the cameras that are read.
    """

    def __init__(
        self,
        spool: Spool,
        calls: Calls,
        clock: ServerClock,
        site: str,
        cameras: Callable[[], Mapping[str, Camera]],
    ) -> None:
        self._spool = spool
        self._calls = calls
        self._clock = clock
        self._site = site
        self._cameras = cameras
        self._trouble: dict[str, str] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        """Report until `stop`, and once more then: so the server knows the last counts."""
        while not self._stopped.wait(INTERVAL):
            self.report()
        self.report()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def report(self) -> None:
        """Report every camera that is read, or whose counts the server does not have."""
        rows: dict[str, list[Row]] = {name: [] for name in self._cameras()}
        for row in self._spool.rows():
            rows.setdefault(row.camera, []).append(row)
        oldest = self._spool.oldest()
        for name, counted in sorted(rows.items()):
            changed = [row for row in counted if not row.reported][-_MAX_HOURS:]
            if not changed and name not in self._cameras():
                continue
            document = self._document(name, oldest.get(name), counted, changed)
            try:
                run(self._calls.report(name, document))
            except ApiError as error:
                self._note(name, str(error))
            except WastestreamError:  # The server is away, as the sender's log says.
                return
            else:
                self._note(name, "")
                self._spool.note_reported(changed)

    def _note(self, name: str, trouble: str) -> None:
        """Log once that reports are rejected. The next one has what this one had."""
        if trouble and self._trouble.get(name) != trouble:
            logger.warning("The server takes no report: %s", trouble, extra={"camera": name})
        self._trouble[name] = trouble

    def _document(
        self, name: str, oldest: float | None, rows: Sequence[Row], changed: Sequence[Row]
    ) -> dict[str, Any]:
        camera = self._cameras().get(name)
        return {
            "gateway": self._spool.gateway,
            "site": self._site,
            "detail": "" if camera is None else camera.health.detail[:_MAX_DETAIL],
            "silent_after": _SILENT_AFTER if camera is None else camera.config.silence,
            "last_frame_at": self._time(None if camera is None else camera.health.last_frame_at),
            "oldest_spooled_at": self._time(None if oldest is None else time.time() - oldest),
            "ended": camera is not None and camera.health.state is State.ENDED,
            "spooled": sum(row.counts["spooled"] for row in rows),
            "hours": [{"hour": row.hour, **row.counts} for row in changed],
        }

    def _time(self, wall: float | None) -> str | None:
        if wall is None:
            return None
        return datetime.fromtimestamp(self._clock.corrected(wall), timezone.utc).isoformat()
