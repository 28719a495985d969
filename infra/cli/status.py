"""`wastestream status`: how the stack on a data folder is."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from infra.cli.options import API_KEY, data_dir, key_file, read_key
from infra.local.folder import DataFolder
from infra.local.status import Status, read_status


@click.command()
@data_dir
@key_file
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(data_dir: Path, *, key_file: Path | None, as_json: bool) -> None:
    """Show the processes, their health and the queue. Exit code 0 only when everything is ready.

    Once there are API keys, the queue and the ledger are shown to one with the scope read.
    """
    folder = DataFolder(data_dir.absolute())
    found = read_status(folder, read_key(key_file))
    if as_json:
        click.echo(json.dumps(found.as_json()))
    elif not found.running:
        click.echo(f"Nothing runs on {folder.path}. Start it with ./wastestream up.")
    else:
        _print(found)
    sys.exit(0 if found.ready else 1)


def _print(found: Status) -> None:
    console = Console(highlight=False)
    console.print(f"{'Ready' if found.ready else 'Not ready'}{f': {found.url}' if found.url else ''}")
    table = Table("process", "state", "pid", "up", "memory", "restarts", box=None)
    for one in found.processes:
        state = "ready" if one.ready else "starting" if one.pid else "waiting to start"
        memory = f"{one.memory / 1e6:,.0f} MB"
        table.add_row(one.name, state, str(one.pid or ""), _duration(one.uptime), memory, str(one.restarts))
    console.print(table)
    for name, answer in found.health.get("checks", {}).items():
        console.print(f"{name}: {answer}")
    if found.health.get("pending") is not None:
        workers, pending = found.health.get("workers"), found.health["pending"]
        console.print(f"workers that report: {workers}, jobs in progress: {pending:,}")
        for one in found.health.get("models", []):
            console.print(f"model: {one['model']} ({one['engine']}), workers: {one['workers']}")
        console.print(f"ledger: {'balanced' if found.health.get('balanced') else 'NOT balanced'}")
    elif found.ready:
        console.print(f"queue and ledger: shown to an API key with the scope read, in {API_KEY}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
