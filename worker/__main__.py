"""`python -m worker --name NAME`: one Celery worker with one child that classifies."""

from __future__ import annotations

import argparse
import socket
import sys
import warnings

from celery.platforms import SecurityWarning

from core.errors import (
    EvictionError,
    MissingRightsError,
    RedisRejectedError,
    RedisUnavailableError,
    SettingsError,
)
from core.messages import QUEUES
from core.redis.client import connect
from core.redis.server import check_server
from core.settings import Settings


def _check_redis(settings: Settings) -> None:
    """Check that Redis takes the worker; Celery would try again for ever.

    Raises:
        MissingRightsError, RedisRejectedError: it does not.
    """
    client = connect(settings.redis, timeout=2.0)
    try:
        check_server(client)
    except (MissingRightsError, RedisRejectedError):
        raise
    except EvictionError:  # `worker.app` logs it.
        return
    except RedisUnavailableError as error:
        sys.stderr.write(f"{error} The worker waits for it.\n")
    finally:
        client.close()


def main() -> int:
    """Run the worker until it must stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="worker", help="distinguishes the workers of one machine")
    parser.add_argument("--events", action="store_true", help="send task events, for Flower")
    arguments = parser.parse_args()
    try:
        from worker.app import app, settings, task  # noqa: PLC0415 - reads settings, whose errors go to stderr

        _check_redis(settings)
    except (SettingsError, MissingRightsError, RedisRejectedError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Celery warns when it runs as root, as it does in containers; here it accepts only JSON.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    worker = app.Worker(
        hostname=f"{arguments.name}@{socket.gethostname()}",
        pool_cls="prefork",
        concurrency=1,
        queues=list(QUEUES.values()),
        task_events=arguments.events,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=not arguments.events,
        redirect_stdouts=False,
        quiet=True,
    )
    worker.start()
    return worker.exitcode or task.shutdown.exit_code


if __name__ == "__main__":
    sys.exit(main())
