"""Result of a benchmark as tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from infra.lab.bench.result import BenchmarkResult, Throughput
from infra.lab.bench.sizing import HEADROOM
from infra.lab.bench.spread import Latency, Spread
from infra.lab.bench.stages import STAGES, Stages

PIPE_WIDTH = 140
"""Columns when the output is not a terminal."""

_MB = 1e6


def print_tables(result: BenchmarkResult) -> None:
    """Print warnings, then every table."""
    tables = [_throughput(result), _cpu(result), _latency(result), _stages(result), _backlog(result)]
    tables += [_scale(result), _processes(result), _sizing(result)]
    print_report(result.machine, str(result.settings["model"]), result.warnings, tables)


def print_report(machine: dict[str, Any], model: str, notes: Sequence[str], tables: Sequence[Table]) -> None:
    """Print the machine, the notes, and the tables."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    console.print(
        f"{machine['processor']}, {machine['cores_used']} of {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['system']}, Python {machine['python']}; "
        f"model {model}",
        markup=False,
    )
    for note in notes:
        console.print(f"Note: {note}", markup=False)
    for table in tables:
        console.print(f"\n{table.title}", style="bold", markup=False)  # rich wraps titles
        table.title = None
        console.print(table)


def _throughput(result: BenchmarkResult) -> Table:
    table = make_table(
        "Throughput: images/s with everything on the same cores (lowest-highest of the rounds)",
        *("frames", "workload", "images/s", "÷ baseline", "baseline CPU ÷ CPU", "cores busy"),
    )
    for name, size in result.sizes.items():
        frames = f"{name}, {size.frames.mean_bytes / 1000:.0f} kB"
        for number, (weights, baseline) in enumerate(size.baselines.items()):
            title = f"baseline, {weights}" + (", not run" if number else "")
            table.add_row(
                "" if number else frames, title, show_spread(baseline.images_per_second, 0), "", "", ""
            )
        for kind, workload in size.workloads.items():
            ratios = (
                show_spread(workload.ratio, 2),
                show_spread(workload.cpu_ratio, 2),
                f"{workload.busy.median:.0%}",
            )
            table.add_row("", kind, show_spread(workload.images_per_second, 0), *ratios)
    for kind, ingest in result.accepting.items():
        rate = show_spread(ingest.images_per_second, 0)
        table.add_row(f"{_main(result)}, no worker", kind, rate, "", "", "")
    return table


def _cpu(result: BenchmarkResult) -> Table:
    roles = list(_workloads(result)[0][2].cpu_ms)
    limits = result.sizes[_main(result)].baselines
    title = f"CPU time, ms an image ({', '.join(limits)}: baseline)"
    table = make_table(title, "frames", "workload", *roles, "all", *limits)
    for name, kind, workload in _workloads(result):
        cpu_ms = [f"{workload.cpu_ms[role].median:.2f}" for role in roles]
        baselines = [f"{limit.cpu_ms.median:.2f}" for limit in result.sizes[name].baselines.values()]
        table.add_row(name, kind, *cpu_ms, f"{workload.cpu_ms_total.median:.2f}", *baselines)
    for kind, ingest in result.accepting.items():
        cpu_ms = [f"{ingest.cpu_ms[role].median:.2f}" if role in ingest.cpu_ms else "" for role in roles]
        table.add_row(f"{_main(result)}, no worker", kind, *cpu_ms)
    return table


def _latency(result: BenchmarkResult) -> Table:
    table = make_table(
        f"Latency of {_main(result)}, upload to result, ms (percentages: of the images/s of `awaited`)",
        *("workload", "images/s", "p50", "p95", "p99", "results", "load generator late, p99"),
    )
    for name, measured in result.latency.items():
        rate = f"{measured.rate:.0f}" if measured.rate else "one by one"
        table.add_row(name, rate, *_percentiles(measured.latency), f"{measured.late_ms:.1f}")
    return table


def _stages(result: BenchmarkResult) -> Table:
    table = make_table(
        "Workers: batches, and time in ms an image",
        *("frames", "workload", "mean batch", "batches by size", "queued", *STAGES, "handover"),
    )
    rows = [(name, kind, workload.stages) for name, kind, workload in _workloads(result)]
    rows += [
        (_main(result), f"latency, {name}", measured.stages) for name, measured in result.latency.items()
    ]
    for name, kind, stages in rows:
        sizes = ", ".join(f"≤{size}: {count}" for size, count in stages.sizes.items())
        batches = (f"{stages.mean_batch:.1f}", sizes, f"{stages.queued:.0f}")
        table.add_row(name, kind, *batches, *stage_times(stages))
    return table


def stage_times(stages: Stages) -> list[str]:
    """Return the cells of `STAGES` and of the handover."""
    return [*(f"{stages.stages[stage]:.2f}" for stage in STAGES), f"{stages.handover:.2f}"]


def _backlog(result: BenchmarkResult) -> Table:
    backlog = result.backlog
    table = make_table(
        "Backlog: calls with jobs pending, ms "
        f"(p50 with most ÷ with none: submit {backlog.submit_ratio:.2f}, poll {backlog.poll_ratio:.2f}; "
        f"Redis: {backlog.pending_bytes:,.0f} bytes a pending job, {backlog.finished_bytes:,.0f} a finished)",
        *("pending", "submit p50", "p95", "p99", "poll p50", "p95", "p99", "calls"),
    )
    for calls in backlog.waiting:
        submit, poll = _percentiles(calls.submit), _percentiles(calls.poll)
        table.add_row(f"{calls.pending:,}", *submit[:3], *poll)
    return table


def _scale(result: BenchmarkResult) -> Table:
    table = make_table(f"Workers, {_main(result)}, images/s", "workers", "single", "bulk")
    for scaling in result.scale:
        table.add_row(str(scaling.workers), show_spread(scaling.single, 0), show_spread(scaling.bulk, 0))
    return table


def _processes(result: BenchmarkResult) -> Table:
    table = make_table(
        *("Processes: start, and memory after the workloads, MB", "process", "start to ready, s"),
        *("", "RSS", "PSS", "USS"),
    )
    for name, process in result.processes.items():
        label, start = name, show_spread(process.start_seconds, 2)
        for part, memory in process.memory.items():
            sizes = (f"{size / _MB:.0f}" for size in (memory.rss, memory.pss, memory.uss))
            table.add_row(label, start, part, *sizes)
            label = start = ""
    return table


def _sizing(result: BenchmarkResult) -> Table:
    sizing = result.sizing
    table = make_table(
        f"Sizing, {_main(result)}, single uploads: workers + cores for everything else, {HEADROOM:.0%} used "
        f"({sizing.worker_ms:.2f} and {sizing.other_ms:.2f} ms of CPU an image)",
        "cameras",
        *(f"{rate} frames/s each" for rate in dict.fromkeys(need.frames_per_second for need in sizing.needs)),
    )
    rows: dict[int, list[str]] = {}
    for need in sizing.needs:
        rows.setdefault(need.cameras, []).append(f"{need.workers} + {need.other_cores}")
    for cameras, cells in rows.items():
        table.add_row(str(cameras), *cells)
    return table


def _main(result: BenchmarkResult) -> str:
    return str(result.settings["main"])


def _workloads(result: BenchmarkResult) -> list[tuple[str, str, Throughput]]:
    return [
        (name, kind, workload)
        for name, size in result.sizes.items()
        for kind, workload in size.workloads.items()
    ]


def make_table(title: str, *columns: str) -> Table:
    """Return an empty table; numbers stand in every column but the first."""
    table = Table(title=title, box=None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def show_spread(spread: Spread, digits: int) -> str:
    """Return the median with the lowest and the highest."""
    return f"{spread.median:.{digits}f} ({spread.low:.{digits}f}-{spread.high:.{digits}f})"


def _percentiles(latency: Latency) -> list[str]:
    medians = [f"{percentile.median:.1f}" for percentile in (latency.p50, latency.p95, latency.p99)]
    return [*medians, f"{latency.samples:,}"]
