"""`python -m worker.health`: exit code 0 while a worker of this machine has been seen lately.

Also while Redis is down: what cannot be asked is no reason to end workers that wait for it.
"""

from __future__ import annotations

import socket
import sys

from core.errors import RedisUnavailableError, WastestreamError
from core.redis.client import connect
from core.redis.workers import WorkerRegistry
from core.settings import load_settings


def main() -> int:
    """Return the exit code; a sentence on stderr says what is wrong."""
    host = socket.gethostname()
    try:
        client = connect(load_settings().redis_url.get_secret_value(), timeout=2.0)
        workers = WorkerRegistry(client).names()
    except RedisUnavailableError as error:
        sys.stderr.write(f"Not known: {error}\n")
        return 0
    except WastestreamError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    if any(name.partition("@")[2] == host for name in workers):
        return 0
    sys.stderr.write(f"No worker of {host} has been seen lately.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
