"""Rate limit for warnings that clients can cause: each one once a second, with a count of its repetitions."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

_INTERVAL: Final = 1.0  # seconds

_MAX_MESSAGES: Final = 100  # different messages in one interval; further ones are counted together


class RateLimitedLog:
    """Logs a warning at once, and the number of its repetitions when a second is over. Thread-safe."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()
        self._repetitions: dict[str, int] = {}  # by message, in this interval
        self._since = 0.0

    def warn(self, message: str, detail: str = "") -> None:
        """Log `message`, followed by the `detail` of this occurrence, unless it was logged this second."""
        self.flush()
        with self._lock:
            is_counted = message in self._repetitions or len(self._repetitions) < _MAX_MESSAGES
            key = message if is_counted else "(others)"
            count = self._repetitions.get(key)
            self._repetitions[key] = 0 if count is None else count + 1
        if count is None:
            self._logger.warning("%s%s", key, detail)

    def flush(self) -> None:
        """Log the counts if the interval is over."""
        with self._lock:
            if time.monotonic() - self._since < _INTERVAL:
                return
            repetitions, self._repetitions = self._repetitions, {}
            self._since = time.monotonic()
        for message, count in repetitions.items():
            if count:
                self._logger.warning("%s (%d times more)", message, count)
