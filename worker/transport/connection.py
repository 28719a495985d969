"""The worker's connection to the broker, which reconnects promptly after any outage of Redis."""

from __future__ import annotations

from typing import Any, Final

from kombu.connection import Connection

from worker.watchdog import LoopWatchdog

MIN_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 2.0
"""Seconds between two attempts to connect. kombu's grow to 30, for which a worker could be idle after an
outage."""


class PromptConnection(Connection):
    """kombu's connection with short pauses between attempts, during which the watchdog gets its beats."""

    watchdog: LoopWatchdog | None = None

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect as kombu does; the caller's options take precedence."""
        defaults = {
            "interval_start": MIN_BACKOFF,
            "interval_step": MIN_BACKOFF,
            "interval_max": MAX_BACKOFF,
        }
        callback = options.pop("callback", None)

        def each_second() -> None:
            if self.watchdog:
                self.watchdog.beat()
            if callback:
                callback()

        options = {**defaults, **options, "callback": each_second}
        return super().ensure_connection(*arguments, **options)  # type: ignore[no-untyped-call]
