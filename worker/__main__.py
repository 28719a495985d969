"""`python -m worker --name NAME`: one Celery worker with one child that classifies."""

from __future__ import annotations

import argparse
import socket
import sys
import warnings

from celery.platforms import SecurityWarning

from core.errors import MissingRightsError, RedisUnavailableError, SettingsError
from core.messages import QUEUES
from core.redis.client import connect
from core.redis.server import check_server
from core.settings import Settings


def _check_rights(settings: Settings) -> None:
    """Raise `MissingRightsError` if Redis would keep the worker from its work; Celery would try for ever."""
    client = connect(settings.redis_url.get_secret_value(), timeout=2.0)
    try:
        check_server(client)
    except MissingRightsError:
        raise
    except RedisUnavailableError:  # Celery waits for it; `worker.app` says what else is wrong.
        return
    finally:
        client.close()


def main() -> int:
    """Run the worker until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="worker", help="distinguishes the workers of one machine")
    parser.add_argument("--events", action="store_true", help="send task events, for Flower")
    arguments = parser.parse_args()
    try:
        from worker.app import app, settings, task  # noqa: PLC0415 - reads settings, whose errors go to stderr

        _check_rights(settings)
    except (SettingsError, MissingRightsError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    # Celery warns root, whom containers and small machines run as; it accepts JSON only here.
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
