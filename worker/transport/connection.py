"""The worker's connection to the broker: tried again often, however long Redis has been away."""

from __future__ import annotations

from typing import Any, Final

from kombu.connection import Connection

from worker.watchdog import LoopWatchdog

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 2.0
"""Seconds between two attempts to connect. kombu's grow to 30: a worker could be idle that long after Redis
is back."""


class PromptConnection(Connection):
    """kombu's connection with short pauses between attempts, in which the worker's watchdog goes on."""

    watchdog: LoopWatchdog | None = None

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect as kombu does; a pause that the caller names goes before ours."""
        pauses = {
            "interval_start": FIRST_PAUSE,
            "interval_step": FIRST_PAUSE,
            "interval_max": LONGEST_PAUSE,
        }
        asked = options.pop("callback", None)

        def each_second() -> None:
            if self.watchdog:
                self.watchdog.beat()
            if asked:
                asked()

        options = {**pauses, **options, "callback": each_second}
        return super().ensure_connection(*arguments, **options)  # type: ignore[no-untyped-call]
