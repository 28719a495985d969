"""`wastestream status`: the state of the stack of a data folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from infra.cli.options import API_KEY, data_dir, key_file, read_key
from infra.local.checkout import PROGRAM
from infra.local.folder import DataFolder
from infra.local.state import ProcessState
from infra.local.status import Status, read_status

_TIMEOUT: Final = 10.0  # seconds: the API probes Redis and storage, which may hang


@click.command()
@data_dir
@key_file
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(data_dir: Path, *, key_file: Path | None, as_json: bool) -> None:
    """Show the processes, their health and the queue. Exit code 0 only if everything is ready.

    If API keys exist, the queue and the ledger need a key with the scope read.
    """
    folder = DataFolder(data_dir.absolute())
    stack = read_status(folder, read_key(key_file), timeout=_TIMEOUT)
    if as_json:
        click.echo(json.dumps(stack.as_json()))
    elif not stack.running:
        click.echo(f"No stack runs on {folder.path}. Start one with {PROGRAM} up.")
    else:
        _print(stack)
    sys.exit(0 if stack.ready else 1)


def _print(stack: Status) -> None:
    console = Console(highlight=False)
    console.print(f"{'Ready' if stack.ready else 'Not ready'}{f': {stack.url}' if stack.url else ''}")
    table = Table("process", "state", "pid", "up", "memory", "restarts", box=None)
    for process in stack.processes:
        pid = str(process.pid) if process.lives else ""
        memory = f"{process.memory / 1e6:,.0f} MB"
        uptime = _duration(process.uptime)
        table.add_row(process.name, _state(process), pid, uptime, memory, str(process.restarts))
    console.print(table)
    if stack.disk is not None:
        console.print(stack.disk, soft_wrap=True)
    _print_checks(console, stack.health)
    if stack.health.get("pending") is not None:
        workers, pending = stack.health.get("workers"), stack.health["pending"]
        console.print(f"workers that report: {workers}, jobs in progress: {pending:,}")
        for model in stack.health.get("models", []):
            console.print(f"model: {model['model']} ({model['engine']}), workers: {model['workers']}")
        for sink in stack.health.get("sinks") or []:
            console.print(_sink(sink), soft_wrap=True)
        console.print(f"ledger: {'balanced' if stack.health.get('balanced') else 'NOT balanced'}")
    elif stack.ready:
        console.print(f"queue and ledger: set {API_KEY} to a key with the scope read")


def _print_checks(console: Console, health: dict[str, Any]) -> None:
    for name, answer in health.get("checks", {}).items():
        if name != "disk":
            console.print(f"{name}: {answer}")
    if health.get("paused"):
        console.print(f"paused: {', '.join(health['paused'])}")
    for name, warning in health.get("warnings", {}).items():
        console.print(f"warning, {name}: {warning}")


def _sink(sink: dict[str, Any]) -> str:
    parts = ["up to date" if sink["behind"] < 1 else f"{_duration(sink['behind'])} behind"]
    if sink["gaps"]:
        parts.append(f"missed results {sink['gaps']} times")
    if sink["error"]:
        parts.append(sink["error"])
    return f"sink {sink['name']}: {'; '.join(parts)}"


def _state(process: ProcessState) -> str:
    if not process.lives:
        return "waiting to start"
    return "ready" if process.ready else "starting"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
