"""`wastestream bench`: throughput, latency and cost of the pipeline on this machine."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from core.errors import WastestreamError
from infra.cli.options import cores
from infra.lab.bench.network import MAX_PLACES, enter_network
from infra.lab.bench.plan import Plan, short_plan
from infra.local.environment import clean_environment

INTERRUPTED: Final = 130  # 128 + SIGINT, the shells' convention


@click.command()
@click.option(
    "--json",
    "json_path",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File for every figure, as JSON; docs/performance.md explains it.",
)
@click.option(
    "--images",
    metavar="DIR|TAR",
    type=click.Path(path_type=Path, exists=True),
    help="Images to compose frames of [the shipped ones].",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0.2, 600),
    default=5.0,
    show_default=True,
    help="Length of each measurement.",
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
    "--scale",
    type=click.IntRange(1, MAX_PLACES),
    metavar="N",
    help="Measure only how throughput grows with 1, 2, 4, ... N workers, each in a network namespace.",
)
@click.option("--short", is_flag=True, help="Run everything in seconds: a check, not a measurement.")
@click.pass_context
def bench(
    context: click.Context,
    *,
    json_path: Path | None,
    images: Path | None,
    seconds: float,
    plots: Path,
    scale: int | None,
    short: bool,
) -> None:
    """Measure throughput, latency and cost of the whole system on this machine.

    Starts its own stacks in a temporary folder, on free ports, and removes them. Run it on an idle machine.
    """
    _check_writable(json_path, None if scale else plots)
    if scale and context.get_parameter_source("plots") is not ParameterSource.DEFAULT:
        raise click.UsageError("--scale draws no plots; leave out --plots.")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    clean_environment("127.0.0.1")
    try:
        if scale:
            _scale(_plan(seconds, short=short), images, scale, json_path)
        else:
            _benchmark(_plan(seconds, short=short), images, json_path, plots)
    except KeyboardInterrupt:
        click.echo("Stopped; no process is left.", err=True)
        sys.exit(INTERRUPTED)
    except (WastestreamError, OSError) as error:
        raise click.ClickException(str(error)) from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _plan(seconds: float, *, short: bool) -> Plan:
    return short_plan() if short else Plan(seconds=seconds)


def _benchmark(plan: Plan, images: Path | None, json_path: Path | None, plots: Path) -> None:
    # Imported here: only this command needs NumPy and LiteRT, which load slowly.
    from infra.lab.bench.benchmark import Benchmark  # noqa: PLC0415
    from infra.lab.bench.plots import write_plots  # noqa: PLC0415
    from infra.lab.bench.tables import print_tables  # noqa: PLC0415

    say = _Progress().say
    _say_minutes(plan.minutes, say)
    result = Benchmark(plan, images, cores(), say).run()
    _write(json_path, result.as_json())
    write_plots(result, plots)
    print_tables(result)
    click.echo(f"Plots: {plots}" + (f"; figures: {json_path}" if json_path else ""))


def _scale(plan: Plan, images: Path | None, workers: int, json_path: Path | None) -> None:
    network = enter_network()  # Before NumPy makes threads, which would stay outside.
    clean_environment(network.address)
    from infra.lab.bench.scale import ScaleBenchmark  # noqa: PLC0415 - as above
    from infra.lab.bench.scale_tables import print_scale  # noqa: PLC0415

    say = _Progress().say
    benchmark = ScaleBenchmark(plan, images, workers=workers, cores=cores(), network=network, say=say)
    _say_minutes(benchmark.minutes, say)
    result = benchmark.run()
    _write(json_path, result.as_json())
    print_scale(result)
    if json_path:
        click.echo(f"Figures: {json_path}")


def _say_minutes(minutes: float, say: Callable[[str], None]) -> None:
    say(f"About {minutes:.0f} minutes." if minutes > 1 else "About a minute.")


def _check_writable(json_path: Path | None, plots: Path | None) -> None:
    """Report a path that cannot be written before the measurements start."""
    parents = [plots.absolute(), *plots.absolute().parents] if plots else []
    existing = next((parent for parent in parents if parent.exists()), None)
    for option, folder in (("--json", json_path and json_path.absolute().parent), ("--plots", existing)):
        if folder is None:
            continue
        if not folder.is_dir():
            raise click.BadParameter(f"{folder} is not a folder; name an existing one.", param_hint=option)
        if not os.access(folder, os.W_OK):
            raise click.BadParameter(f"the folder {folder} cannot be written.", param_hint=option)


def _write(path: Path | None, figures: dict[str, Any]) -> None:
    if path is not None:
        path.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


class _Progress:
    """Prints lines on standard error with the time since the start."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line."""
        minutes, seconds = divmod(int(time.monotonic() - self._since), 60)
        click.echo(f"{minutes:3}:{seconds:02}  {line}", err=True)
