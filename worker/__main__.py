"""`python -m worker --name NAME`: one Celery worker with one child that classifies."""

from __future__ import annotations

import argparse
import socket
import sys
import warnings

from celery.platforms import SecurityWarning

from core.errors import SettingsError
from core.queue import QUEUES


def main() -> int:
    """Run the worker until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="worker", help="distinguishes the workers of one machine")
    parser.add_argument("--events", action="store_true", help="send task events, for Flower")
    arguments = parser.parse_args()
    try:
        from worker.app import app, task  # noqa: PLC0415 - reads the settings, whose errors belong on stderr
    except SettingsError as error:
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
    return worker.exitcode or task.ending.exit_code


if __name__ == "__main__":
    sys.exit(main())
