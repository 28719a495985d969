"""Logs of all programs: text on a terminal; elsewhere JSON, one object a line."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import IO, Any, Final

request_id: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""Id of the request that the current thread serves."""

_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_EXTRA: Final = ("job_id", "job_ids")
"""Attributes that a caller gives a record by `extra`: the job that it is about, or the jobs of a batch."""


def set_up(level: str, process: str) -> None:
    """Set up the log of a program, on standard error.

    Args:
        level: least severity.
        process: name of the program, such as "api".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(_TEXT) if is_read_by_people(sys.stderr) else JsonFormatter(process)
    )
    logging.basicConfig(level=level, handlers=[handler])


def is_read_by_people(stream: IO[str]) -> bool:
    """Return whether a stream is a terminal."""
    return stream.isatty()


def json_line(level: str, logger: str, message: str, process: str, **members: Any) -> str:
    """Return a record of now as a line of JSON, without its end. Members that are empty are left out."""
    record = {"level": level, "logger": logger, "message": message, "process": process}
    return _line(time.time(), record | members)


class JsonFormatter(logging.Formatter):
    """Formats records as JSON: time, level, logger, message, process, ids of request and job, exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line."""
        members: dict[str, Any] = {
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": self._process,
            "request_id": request_id.get(),
            **{name: getattr(record, name, None) for name in _EXTRA},
            "exception": self.formatException(record.exc_info) if record.exc_info else None,
        }
        return _line(record.created, members)


def _line(seconds: float, members: dict[str, Any]) -> str:
    moment = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    given = {name: value for name, value in members.items() if value not in (None, "")}
    return json.dumps({"time": moment, **given, "pid": os.getpid()}, ensure_ascii=False, default=str)
