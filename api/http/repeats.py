"""A log of what clients can make happen as often as they like: each thing once a second, with a count."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

_SECOND: Final = 1.0

_MOST: Final = 100  # different things in one second; what is more is counted as one


class Repeats:
    """Logs a warning at once, and how often it came again when a second has gone by. Safe between threads."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._seen: dict[str, int] = {}
        self._since = 0.0

    def warn(self, what: str, about: str = "") -> None:
        """Log `what`, and `about` it what is different each time, unless it was logged in this second."""
        self.flush()
        with self._lock:
            key = what if what in self._seen or len(self._seen) < _MOST else "(others)"
            known = self._seen.get(key)
            self._seen[key] = 0 if known is None else known + 1
        if known is None:
            self._logger.warning("%s%s", what if key == what else key, about)

    def flush(self) -> None:
        """Log the counts if the second is over."""
        with self._lock:
            if time.monotonic() - self._since < _SECOND:
                return
            seen, self._seen, self._since = self._seen, {}, time.monotonic()
        for what, count in seen.items():
            if count:
                self._logger.warning("%s (%d times more)", what, count)
