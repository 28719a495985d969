"""`wastestream down`: stops what `up` started."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Final

import click
import psutil

from infra.cli.options import data_dir
from infra.local.folder import DataFolder, lives
from infra.local.state import read_state

_MAX_SECONDS: Final = 120.0
"""More than all graces of a stack together."""

_SILENT_SECONDS: Final = 3.0
"""An end that takes longer needs a word."""


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
        try:
            _tell(pid)
        except PermissionError as error:
            raise folder.foreign() from error
    since, said = time.monotonic(), False
    while folder.supervisor() is not None or lives(pid):
        seconds = time.monotonic() - since
        if seconds > _SILENT_SECONDS and not said:
            click.echo(_waiting_for(folder, pid))
            said = True
        if seconds > _MAX_SECONDS:
            raise click.ClickException(
                f"Process {pid} has not stopped within {_MAX_SECONDS:.0f} s. Its log is "
                f"{folder.logs / 'up.log'}; `kill -9 {pid}` ends it and its processes and loses no job."
            )
        time.sleep(0.05)
    click.echo("Stopped.")


def _tell(pid: int) -> None:
    """Ask the supervisor to stop; one that was itself stopped (Ctrl-Z, SIGSTOP) could not hear it."""
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):  # It has just ended by itself.
        os.kill(pid, signal.SIGTERM)
        if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
            click.echo(
                f"Process {pid} stands still (Ctrl-Z or SIGSTOP); letting it go on, so that it can end."
            )
            os.kill(pid, signal.SIGCONT)


def _waiting_for(folder: DataFolder, pid: int) -> str:
    state = read_state(folder)
    names = [process.name for process in state.processes if process.lives] if state else []
    what = ", ".join(names) or f"process {pid}"
    return f"Waiting for {what}: requests and batches in progress are finished first."
