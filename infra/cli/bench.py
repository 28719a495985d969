"""`wastestream bench`: how fast the pipeline is on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import click

from core.errors import WastestreamError
from infra.cli.options import cores
from infra.local.environment import clean_environment

INTERRUPTED: Final = 130  # 128 + SIGINT, as shells have it


@click.command()
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every figure to this file; docs/performance.md explains it.",
)
@click.option(
    "--images",
    metavar="DIR|TAR",
    type=click.Path(path_type=Path, exists=True),
    help="Pictures to make frames of [those shipped].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.2, 600),
    default=5.0,
    show_default=True,
    help="Length of each single measurement.",
)
@click.option(
    "--plots",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("wastestream-bench"),
    show_default=True,
    help="Folder for the plots.",
)
@click.option(
    "--short", is_flag=True, help="Pass through everything in seconds; proves that it works, not how fast."
)
def bench(json_path: Path | None, images: Path | None, seconds: float, plots: Path, *, short: bool) -> None:
    """Measure throughput, latency and cost of the whole system on this machine.

    Starts stacks of its own in a temporary folder, on free ports, and removes them. Run it while the machine
    does nothing else.
    """
    _check_writable(json_path, plots)
    # Imported here: NumPy and LiteRT are no business of the other commands, and take a while to load.
    from infra.lab.bench.plan import Plan, short_plan  # noqa: PLC0415
    from infra.lab.bench.plots import write_plots  # noqa: PLC0415
    from infra.lab.bench.run import Run  # noqa: PLC0415
    from infra.lab.bench.tables import print_report  # noqa: PLC0415

    plan = short_plan() if short else Plan(seconds=seconds)
    say = _Progress().say
    say(f"About {plan.minutes:.0f} minutes." if plan.minutes > 1 else "About a minute.")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    clean_environment("127.0.0.1")
    try:
        found = Run(plan, images, cores(), say).measure()
        _write(json_path, found.as_json())
        write_plots(found, plots)
    except KeyboardInterrupt:
        click.echo("Stopped; nothing of it runs on.", err=True)
        sys.exit(INTERRUPTED)
    except (WastestreamError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)
    print_report(found)
    click.echo(f"Plots: {plots}" + (f"; figures: {json_path}" if json_path else ""))


def _check_writable(json_path: Path | None, plots: Path) -> None:
    """Say now, not after minutes, that results cannot be written."""
    for option, folder in (
        ("--json", json_path and json_path.absolute().parent),
        ("--plots", plots.absolute()),
    ):
        if folder is None:
            continue
        there = (
            folder if option == "--json" else next(one for one in (folder, *folder.parents) if one.exists())
        )
        if not there.is_dir():
            raise click.BadParameter(f"{there} is not a folder; name one that exists.", param_hint=option)
        if not os.access(there, os.W_OK):
            raise click.BadParameter(f"the folder {there} cannot be written.", param_hint=option)


def _write(path: Path | None, found: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


class _Progress:
    """Lines on standard error with the time since the start."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line."""
        minutes, seconds = divmod(int(time.monotonic() - self._since), 60)
        click.echo(f"{minutes:3}:{seconds:02}  {line}", err=True)
