"""Structured logs: a line of JSON for each event, on standard error."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Final

_EXTRAS: Final = ("camera", "frame")


class JsonFormatter(logging.Formatter):
    """Writes an event as a line of JSON: time, level, event, and the camera and frame that it is about."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of an event."""
        document = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        document |= {name: getattr(record, name) for name in _EXTRAS if hasattr(record, name)}
        if record.exc_info:
            document["trace"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=False)


def set_up_logs() -> None:
    """Write the events of this package to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger("wastestream")
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    root.propagate = False
