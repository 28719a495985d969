"""Result of `bench --scale` as tables for a terminal."""

from __future__ import annotations

from rich.table import Table

from infra.lab.bench.scale import ScaleResult
from infra.lab.bench.spread import Spread
from infra.lab.bench.stages import STAGES
from infra.lab.bench.tables import make_table, print_report, show_spread, stage_times


def print_scale(result: ScaleResult) -> None:
    """Print warnings and notes, then every table."""
    notes = [*result.warnings, *result.notes]
    tables = [_efficiency(result), _cpu(result), _stages(result)]
    print_report(result.machine, str(result.settings["model"]), notes, tables)


def _efficiency(result: ScaleResult) -> Table:
    images = f"single images of {result.settings['main']}"
    table = make_table(
        f"Scaling, {images}: workers {result.network}, one Redis, one S3 server",
        *("workers", "images/s", "efficiency", "efficiency without servers", "cores of workers", "idle"),
    )
    for step in result.steps:
        table.add_row(
            str(step.workers),
            show_spread(step.images_per_second, 0),
            _optional(step.efficiency),
            _optional(step.efficiency_without_servers),
            f"{step.worker_cores.median:.2f}",
            f"{step.idle_cores.median:.2f}",
        )
    return table


def _cpu(result: ScaleResult) -> Table:
    roles = list(result.steps[0].cpu_ms)
    table = make_table("CPU time, ms an image", "workers", *roles)
    for step in result.steps:
        table.add_row(str(step.workers), *(f"{step.cpu_ms[role].median:.2f}" for role in roles))
    return table


def _stages(result: ScaleResult) -> Table:
    table = make_table(
        "Workers: batches, and time in ms an image", "workers", "mean batch", *STAGES, "handover"
    )
    for step in result.steps:
        table.add_row(str(step.workers), f"{step.stages.mean_batch:.1f}", *stage_times(step.stages))
    return table


def _optional(spread: Spread | None) -> str:
    return show_spread(spread, 2) if spread else "-"
