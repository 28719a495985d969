"""`wastestream down`: stops what `up` started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import click

from infra.cli.options import data_dir
from infra.local.folder import DataFolder, lives

_MOST_SECONDS: Final = 120.0
"""More than all graces of a stack together."""


@click.command()
@data_dir
def down(data_dir: Path) -> None:
    """Stop what `up` started on this folder, and wait until it has ended."""
    folder = DataFolder(data_dir.absolute())
    pid = folder.supervisor()
    if pid is None:
        click.echo(f"Nothing runs on {folder.path}.")
        return
    if pid:
        with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _MOST_SECONDS
    while folder.supervisor() is not None or lives(pid):
        if time.monotonic() > deadline:
            raise click.ClickException(
                f"Process {pid} has not stopped within {_MOST_SECONDS:.0f} s. Its log is "
                f"{folder.logs / 'up.log'}; `kill -9 {pid}` ends it and its processes and loses no job."
            )
        time.sleep(0.05)
    click.echo("Stopped.")
