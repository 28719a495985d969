"""The worker's connection to the broker, which reconnects promptly after any outage of Redis."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from kombu.connection import Connection

MIN_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 2.0
"""Seconds between two attempts to connect. kombu's grow to 30, for which a worker could be idle after an
outage."""


class PromptConnection(Connection):
    """kombu's connection with short pauses between attempts, during which `on_pause` is called."""

    on_pause: ClassVar[Callable[[], None] | None] = None
    """Called every second between attempts."""

    def ensure_connection(self, *arguments: Any, **options: Any) -> Any:
        """Connect as kombu does; the caller's options take precedence."""
        defaults = {
            "interval_start": MIN_BACKOFF,
            "interval_step": MIN_BACKOFF,
            "interval_max": MAX_BACKOFF,
        }
        callback = options.pop("callback", None)

        def each_second() -> None:
            on_pause = type(self).on_pause
            if on_pause:
                on_pause()
            if callback:
                callback()

        options = {**defaults, **options, "callback": each_second}
        return super().ensure_connection(*arguments, **options)  # type: ignore[no-untyped-call]
