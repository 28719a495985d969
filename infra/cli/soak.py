"""`wastestream soak`: a stack under load, killed in every way, that must lose nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from core.errors import WastestreamError
from infra.lab.soak.disturbances import KINDS, PROMISED, PROMISED_ANSWER, QUICK
from infra.lab.soak.report import Report
from infra.lab.soak.run import soak as run
from infra.lab.soak.target import Target
from infra.local.environment import clean_environment
from infra.local.limits import raise_file_limit

_SHORT_MINUTES = 2.0


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0.05, 10_000),
    default=30.0,
    show_default=True,
    help="How long to go on; below 2, only kills that take no time themselves.",
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="The same seed, the same order of kills."
)
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write JSON."
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write Markdown tables.",
)
def soak(minutes: float, seed: int, workers: int, json_file: Path | None, report_file: Path | None) -> None:
    """Start a stack, keep load on it, kill everything in it at random, and count.

    The stack is its own, in a temporary folder and on free ports; it is removed afterwards. The exit code
    is 0 when nothing was lost or counted twice and the ledger balances, 1 otherwise; 3 when only a promised
    time was not kept: 15 seconds to recover from a kill, 2 to answer an upload in spite of slow clients.
    """
    clean_environment("127.0.0.1")
    raise_file_limit()  # for the slow clients
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a shell has started it in the background
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="wastestream-soak-") as folder:
            report = _run(Target(Path(folder) / "data", workers), minutes, seed)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped; the stack under test is stopped and removed.", err=True)
        sys.exit(130)
    text = report.to_markdown()
    click.echo(text)
    if json_file:
        json_file.write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    if report_file:
        report_file.write_text(text, encoding="utf-8")
    verdict, code = _verdict(report)
    click.echo(verdict)
    sys.exit(code)


def _verdict(report: Report) -> tuple[str, int]:
    """Return what came of it in a sentence, and the exit code."""
    if not report.good:
        return "The promise was NOT kept.", 1
    promise = (
        f"every kill is recovered from within {PROMISED:.0f} s, and every single upload is answered within "
        f"{PROMISED_ANSWER:.0f} s in spite of slow clients"
    )
    if report.late:
        late = f"in {report.late} of {len(report.disturbances)} disturbances a promise was broken"
        return f"Nothing lost, nothing doubled, but {late}: {promise}.", 3
    return f"Nothing lost, nothing doubled; {promise}.", 0


def _run(target: Target, minutes: float, seed: int) -> Report:
    _say(f"Starting a stack on {target.folder.path} ...")
    kinds = KINDS if minutes >= _SHORT_MINUTES else QUICK
    try:
        target.start()
        return asyncio.run(run(target, seconds=minutes * 60, seed=seed, kinds=kinds, say=_say))
    finally:
        target.stop()


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {line}", err=True)
