"""Log files of the processes: rotation and their last lines."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Final

MAX_BYTES: Final = 20_000_000
"""Size at which a log is rotated to NAME.log.1; a process has at most these two files."""


def rotate(path: Path, limit: int = MAX_BYTES) -> None:
    """Copy a log past `limit` bytes to NAME.log.1 and empty it.

    The file itself stays, because its process keeps it open. Lines written between copy and cut are lost.
    """
    if path.exists() and path.stat().st_size > limit:
        copy = path.with_name(path.name + ".1")
        try:
            shutil.copyfile(path, copy)
        except OSError:  # The disk is full: emptying this log frees its bytes.
            copy.unlink(missing_ok=True)
        os.truncate(path, 0)


def tail(path: Path, *, start: int = 0, lines: int = 12) -> list[str]:
    """Return the last lines written at or after byte `start`, records as text for people."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - 8_192))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [_readable(line) for line in text.splitlines()[-lines:]]


def _readable(line: str) -> str:
    """Return a record in JSON as text, other lines as they are."""
    with contextlib.suppress(ValueError, LookupError, TypeError):
        record = json.loads(line)
        return f"{record['time']} {record['level']} {record['logger']}: {record['message']}"
    return line
