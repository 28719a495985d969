"""`python -m api.rollout`: waits until every living worker can read the messages of this API.

An older worker could settle images of a newer API `failed`, as missing. So a rolling update runs this before
each new process of the API; without workers there is nothing to wait for.
"""

from __future__ import annotations

import sys
import time
from typing import Final

from core.errors import RedisUnavailableError, SettingsError
from core.redis.client import connect
from core.redis.workers import WorkerRegistry
from core.settings import load_settings

TIMEOUT: Final = 600.0
"""Seconds to wait; then the exit code is 1, and whoever started this starts it again."""

_PAUSE: Final = 2.0  # seconds between two looks


def wait(workers: WorkerRegistry, timeout: float = TIMEOUT) -> int:
    """Wait for the workers; return the exit code."""
    deadline, told = time.monotonic() + timeout, ""
    while True:
        try:
            outdated = workers.outdated()
            reason = f"Workers to update first: {', '.join(sorted(outdated))}." if outdated else ""
        except RedisUnavailableError as error:
            reason = str(error)
        if not reason:
            return 0
        if reason != told:
            sys.stderr.write(f"{reason}\n")
            told = reason
        if time.monotonic() >= deadline:
            return 1
        time.sleep(_PAUSE)


def main() -> int:
    """Wait as the environment says; return the exit code."""
    try:
        return wait(WorkerRegistry(connect(load_settings().redis)))
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
