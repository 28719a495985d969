"""`wastestream soak`: faults injected into a stack under load, which must lose nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import click

from core.errors import WastestreamError
from core.settings import PREFIX
from infra.lab.soak.broker import SITE, Broker, mosquitto
from infra.lab.soak.faults import FAULTS, KILLS, MAX_ANSWER, MAX_RECOVERY, broker_faults
from infra.lab.soak.gateway import MAX_BACKFILL, MAX_TIME_ERROR, GatewaySoak, GatewaySoakResult
from infra.lab.soak.receiver import NETWORK
from infra.lab.soak.result import SoakResult
from infra.lab.soak.soak import soak as run
from infra.lab.stack import Stack
from infra.local.environment import clean_environment
from infra.local.limits import raise_file_limit

_SHORT_MINUTES = 2.0
_GATEWAY_KEPT = (
    f"Every sampled frame arrived once or is counted, with its time of capture to {MAX_TIME_ERROR:.0f} s, "
    f"and the backlog within {MAX_BACKFILL:.0f} s of the network's return."
)


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0.05, 10_000),
    default=30.0,
    show_default=True,
    help="Duration; below 2 minutes only kills, which take no time themselves.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the order of the faults.")
@click.option("--workers", type=click.IntRange(1, 64), default=2, show_default=True, help="Worker processes.")
@click.option(
    "--cameras",
    type=click.IntRange(0, 64),
    default=0,
    show_default=True,
    help="Soak the camera gateway with so many cameras, instead of the workload of uploads.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File for every figure, as JSON.",
)
@click.option(
    "--report",
    "report_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File for the tables, as Markdown.",
)
def soak(
    minutes: float, seed: int, workers: int, *, cameras: int, json_file: Path | None, report_file: Path | None
) -> None:
    """Inject faults into a stack under load and count every image, in its feed and at every sink too.

    With --cameras the images are frames of a camera gateway, whose network, disk and process fail too.

    Starts its own stack in a temporary folder, on free ports, and removes it. Results go to a webhook, to the
    archive and, if Mosquitto is installed, to an MQTT broker. Exit code 0: nothing was lost
    or counted twice, and the ledger balances. 3: the same, but a promised time was exceeded (15 seconds to
    recover from a kill, 2 to answer an upload in spite of slow clients). 1: anything else.
    """
    clean_environment("127.0.0.1")
    raise_file_limit()  # for the slow clients
    for number in (signal.SIGINT, signal.SIGTERM):  # A shell ignores SIGINT for background commands.
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="wastestream-soak-") as folder:
            result = (
                _run_gateway(Path(folder), workers, minutes, cameras)
                if cameras
                else _run(Path(folder) / "data", workers, minutes, seed)
            )
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Stopped; the stack is stopped and removed.", err=True)
        sys.exit(130)
    text = result.to_markdown()
    click.echo(text)
    if json_file:
        json_file.write_text(json.dumps(result.to_json(), indent=1) + "\n", encoding="utf-8")
    if report_file:
        report_file.write_text(text, encoding="utf-8")
    verdict, code = _verdict(result)
    click.echo(verdict)
    sys.exit(code)


def _verdict(result: SoakResult | GatewaySoakResult) -> tuple[str, int]:
    """Return the verdict as a sentence, and the exit code."""
    if isinstance(result, GatewaySoakResult):
        return (_GATEWAY_KEPT, 0) if result.good else ("The promise was NOT kept.", 1)
    if not result.good:
        return "The promise was NOT kept.", 1
    promise = (
        f"every kill is recovered from within {MAX_RECOVERY:.0f} s, its results delivered by webhook and "
        f"MQTT as well, and every upload is answered within {MAX_ANSWER:.0f} s in spite of slow clients"
    )
    if result.late:
        late = f"{result.late} of {len(result.faults)} faults exceeded a promised time"
        return f"Nothing lost, nothing doubled, but {late}: {promise}.", 3
    return f"Nothing lost, nothing doubled; {promise}.", 0


def _run(folder: Path, workers: int, minutes: float, seed: int) -> SoakResult:
    faults, brief = (FAULTS, False) if minutes >= _SHORT_MINUTES else (KILLS, True)
    # Two API processes, so that a fault can kill one of them.
    environment = {f"{PREFIX}API_PROCESSES": "2", f"{PREFIX}WEBHOOK_NETWORKS": NETWORK}
    with ExitStack() as servers:
        broker = None
        if program := mosquitto():
            broker = servers.enter_context(Broker(program, folder.with_name("broker")))
            environment |= {f"{PREFIX}MQTT_URL": broker.url, f"{PREFIX}SITE": SITE}
            faults += broker_faults(broker)[: 1 if brief else None]
        else:
            _say("Mosquitto is not installed, so no results are published by MQTT.")
        _say(f"Starting a stack in {folder} ...")
        stack = servers.enter_context(Stack(folder, workers, **environment))
        return asyncio.run(run(stack, broker, seconds=minutes * 60, seed=seed, faults=faults, say=_say))


def _run_gateway(folder: Path, workers: int, minutes: float, cameras: int) -> GatewaySoakResult:
    _say(f"Starting a stack in {folder} ...")
    gateway = folder / "gateway"
    gateway.mkdir()
    with Stack(folder / "data", workers) as stack:
        return GatewaySoak(gateway, stack, seconds=minutes * 60, cameras=cameras, say=_say).run()


def _say(line: str) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')}  {line}", err=True)
