"""The report as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from infra.lab.bench.figures import Latency, Spread
from infra.lab.bench.report import Report, Throughput
from infra.lab.bench.sizing import HEADROOM
from infra.lab.bench.stages import STAGES

PIPE_WIDTH = 140
"""Columns where there is no terminal to say how wide it is."""

_MB = 1e6


def print_report(found: Report) -> None:
    """Print every table, and warnings first."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = PIPE_WIDTH
    machine = found.machine
    console.print(
        f"{machine['processor']}, {machine['cores_used']} of {machine['cores']} cores, "
        f"{machine['memory_bytes'] / 1e9:.0f} GB, {machine['system']}, Python {machine['python']}; "
        f"model {found.settings['model']}",
        markup=False,
    )
    for warning in found.warnings:
        console.print(f"Note: {warning}", markup=False)
    tables = [_throughput(found), _cpu(found), _latency(found), _stages(found), _growth(found), _scale(found)]
    for table in [*tables, _processes(found), _sizing(found)]:
        console.print(f"\n{table.title}", style="bold", markup=False)  # rich wraps titles
        table.title = None
        console.print(table)


def _throughput(found: Report) -> Table:
    table = _table(
        "Throughput: images/s with everything on the same cores (lowest-highest of the rounds)",
        *("frames", "load", "images/s", "÷ limit", "CPU of the limit ÷ CPU", "cores busy"),
    )
    for name, size in found.sizes.items():
        frames = f"{name}, {size.frames.mean_bytes / 1000:.0f} kB"
        for at, (weights, limit) in enumerate(size.limits.items()):
            title = f"limit, {weights}" + (", not run" if at else "")
            table.add_row("" if at else frames, title, _spread(limit.images_per_second, 0), "", "", "")
        for kind, one in size.loads.items():
            ratios = (_spread(one.ratio, 2), _spread(one.cpu_ratio, 2), f"{one.busy.median:.0%}")
            table.add_row("", kind, _spread(one.images_per_second, 0), *ratios)
    for kind, accepting in found.accepting.items():
        rate = _spread(accepting.images_per_second, 0)
        table.add_row(f"{_main(found)}, no worker", kind, rate, "", "", "")
    return table


def _cpu(found: Report) -> Table:
    roles = list(_loads(found)[0][2].cpu_ms)
    table = _table("CPU time, ms an image", "frames", "load", *roles, "all", "limit")
    for name, kind, one in _loads(found):
        used = [f"{one.cpu_ms[role].median:.2f}" for role in roles]
        limit = found.sizes[name].limit.cpu_ms.median
        table.add_row(name, kind, *used, f"{one.cpu_ms_total.median:.2f}", f"{limit:.2f}")
    for kind, accepting in found.accepting.items():
        used = [f"{accepting.cpu_ms[role].median:.2f}" if role in accepting.cpu_ms else "" for role in roles]
        table.add_row(f"{_main(found)}, no worker", kind, *used, "", "")
    return table


def _latency(found: Report) -> Table:
    table = _table(
        f"Latency of {_main(found)}, upload to answer, ms (load: of the images/s of `awaited`)",
        *("load", "images/s", "p50", "p95", "p99", "answers", "load generator late, p99"),
    )
    for name, one in found.latency.items():
        rate = f"{one.rate:.0f}" if one.rate else "one by one"
        table.add_row(name, rate, *_percentiles(one.latency), f"{one.late_ms:.1f}")
    return table


def _stages(found: Report) -> Table:
    table = _table(
        "Workers: batches, and time in ms an image",
        *("frames", "load", "mean batch", "batches by size", "queued", *STAGES, "handover"),
    )
    rows = [(name, kind, one.stages) for name, kind, one in _loads(found)]
    rows += [(_main(found), f"latency, {name}", one.stages) for name, one in found.latency.items()]
    for name, kind, stages in rows:
        sizes = ", ".join(f"≤{size}: {count}" for size, count in stages.sizes.items())
        times = [f"{stages.stages[stage]:.2f}" for stage in STAGES]
        table.add_row(
            name,
            kind,
            f"{stages.mean_batch:.1f}",
            sizes,
            f"{stages.queued:.0f}",
            *times,
            f"{stages.handover:.2f}",
        )
    return table


def _growth(found: Report) -> Table:
    growth = found.growth
    table = _table(
        "Cost with jobs pending, ms "
        f"(p50 with most ÷ with none: submit {growth.submit_ratio:.2f}, poll {growth.poll_ratio:.2f}; "
        f"Redis: {growth.pending_bytes:,.0f} bytes a pending job, {growth.finished_bytes:,.0f} a finished)",
        *("pending", "submit p50", "p95", "p99", "poll p50", "p95", "p99", "calls"),
    )
    for one in growth.waiting:
        submit, poll = _percentiles(one.submit), _percentiles(one.poll)
        table.add_row(f"{one.pending:,}", *submit[:3], *poll)
    return table


def _scale(found: Report) -> Table:
    table = _table(f"Workers, {_main(found)}, images/s", "workers", "single", "bulk")
    for one in found.scale:
        table.add_row(str(one.workers), _spread(one.single, 0), _spread(one.bulk, 0))
    return table


def _processes(found: Report) -> Table:
    table = _table(
        "Processes: start, and memory after load, MB", "process", "start to ready, s", "", "RSS", "PSS", "USS"
    )
    for name, process in found.processes.items():
        label, start = name, _spread(process.start_seconds, 2)
        for part, held in process.memory.items():
            sizes = (f"{size / _MB:.0f}" for size in (held.rss, held.pss, held.uss))
            table.add_row(label, start, part, *sizes)
            label = start = ""
    return table


def _sizing(found: Report) -> Table:
    sizing = found.sizing
    table = _table(
        f"Sizing, {_main(found)}, single uploads: workers + cores for everything else, {HEADROOM:.0%} used "
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


def _main(found: Report) -> str:
    return str(found.settings["main"])


def _loads(found: Report) -> list[tuple[str, str, Throughput]]:
    return [(name, kind, one) for name, size in found.sizes.items() for kind, one in size.loads.items()]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, box=None)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    return table


def _spread(found: Spread, digits: int) -> str:
    return f"{found.median:.{digits}f} ({found.low:.{digits}f}-{found.high:.{digits}f})"


def _percentiles(found: Latency) -> list[str]:
    return [f"{one.median:.1f}" for one in (found.p50, found.p95, found.p99)] + [f"{found.samples:,}"]
