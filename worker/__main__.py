"""`python -m worker --name NAME`: one Celery worker with one child that classifies."""

from __future__ import annotations

import argparse
import sys

from core.errors import SettingsError
from core.queue import QUEUES


def main() -> int:
    """Run the worker until it is told to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument("--name", default="worker", help="distinguishes the workers of one machine")
    parser.add_argument("--events", action="store_true", help="send task events, for Flower")
    arguments = parser.parse_args()
    try:
        from worker.app import app  # noqa: PLC0415 - reads the settings, whose errors belong on stderr
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options = ["--pool=prefork", "--concurrency=1", f"--hostname={arguments.name}@%h"]
    options += [f"--queues={','.join(QUEUES.values())}", "--without-gossip", "--without-mingle"]
    options += ["--task-events"] if arguments.events else ["--without-heartbeat"]
    app.worker_main(["worker", *options])
    return 0


if __name__ == "__main__":
    sys.exit(main())
