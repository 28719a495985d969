"""`wastestream status`: how the stack on a data folder is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from infra.cli.options import API_KEY, data_dir, key_file, read_key
from infra.local.checkout import PROGRAM
from infra.local.folder import DataFolder
from infra.local.state import ProcessState
from infra.local.status import Status, read_status

_TIMEOUT: Final = 10.0  # seconds: the API asks Redis and storage, which may hang


@click.command()
@data_dir
@key_file
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(data_dir: Path, *, key_file: Path | None, as_json: bool) -> None:
    """Show the processes, their health and the queue. Exit code 0 only when everything is ready.

    Once there are API keys, the queue and the ledger are shown to one with the scope read.
    """
    folder = DataFolder(data_dir.absolute())
    found = read_status(folder, read_key(key_file), timeout=_TIMEOUT)
    if as_json:
        click.echo(json.dumps(found.as_json()))
    elif not found.running:
        click.echo(f"Nothing runs on {folder.path}. Start it with {PROGRAM} up.")
    else:
        _print(found)
    sys.exit(0 if found.ready else 1)


def _print(found: Status) -> None:
    console = Console(highlight=False)
    console.print(f"{'Ready' if found.ready else 'Not ready'}{f': {found.url}' if found.url else ''}")
    table = Table("process", "state", "pid", "up", "memory", "restarts", box=None)
    for one in found.processes:
        pid = str(one.pid) if one.lives else ""
        memory = f"{one.memory / 1e6:,.0f} MB"
        table.add_row(one.name, _state(one), pid, _duration(one.uptime), memory, str(one.restarts))
    console.print(table)
    if found.disk is not None:
        console.print(found.disk, soft_wrap=True)
    for name, answer in found.health.get("checks", {}).items():
        if name != "disk":
            console.print(f"{name}: {answer}")
    for name, warning in found.health.get("warnings", {}).items():
        console.print(f"warning, {name}: {warning}")
    if found.health.get("pending") is not None:
        workers, pending = found.health.get("workers"), found.health["pending"]
        console.print(f"workers that report: {workers}, jobs in progress: {pending:,}")
        for one in found.health.get("models", []):
            console.print(f"model: {one['model']} ({one['engine']}), workers: {one['workers']}")
        console.print(f"ledger: {'balanced' if found.health.get('balanced') else 'NOT balanced'}")
    elif found.ready:
        console.print(f"queue and ledger: shown to an API key with the scope read, in {API_KEY}")


def _state(one: ProcessState) -> str:
    if not one.lives:
        return "waiting to start"
    return "ready" if one.ready else "starting"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
