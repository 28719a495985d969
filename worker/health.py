"""Health check, `python -m worker.health`: exit code 0 if a worker of this machine sends heartbeats.

The exit code is 0 also while Redis is down: a restart would not help workers that wait for it.
"""

from __future__ import annotations

import socket
import sys

from core.errors import RedisUnavailableError, WastestreamError
from core.redis.client import connect
from core.redis.workers import WorkerRegistry
from core.settings import load_settings


def main() -> int:
    """Return the exit code; write the reason to stderr."""
    host = socket.gethostname()
    try:
        client = connect(load_settings().redis, timeout=2.0)
        workers = WorkerRegistry(client).names()
    except RedisUnavailableError as error:
        sys.stderr.write(f"Unknown: {error}\n")
        return 0
    except WastestreamError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if any(name.partition("@")[2] == host for name in workers):
        return 0
    sys.stderr.write(f"No worker of {host} sends heartbeats; see its log.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
