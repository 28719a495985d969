"""Result of a benchmark as PNG plots."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from infra.lab.bench.result import BenchmarkResult, Throughput
from infra.lab.bench.spread import Spread
from infra.lab.bench.stages import STAGES

_DPI: Final = 110
_INCHES: Final = (9, 5)


def write_plots(result: BenchmarkResult, folder: Path) -> None:
    """Write one PNG for each question into `folder`, which is created.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in _PLOTS.items():
        with mpl.rc_context({"axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
            figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
            draw(result, figure.subplots())
            figure.savefig(folder / f"{name}.png")


def _throughput(result: BenchmarkResult, axes: Any) -> None:
    bars = [
        {f"baseline, {weights}": limit for weights, limit in size.baselines.items()} | size.workloads
        for size in result.sizes.values()
    ]
    kinds = list(bars[0])
    for offset, kind in enumerate(kinds):
        rates = {place: size[kind].images_per_second for place, size in enumerate(bars) if kind in size}
        width = 0.8 / len(kinds)
        places = [place + (offset - (len(kinds) - 1) / 2) * width for place in rates]
        heights = [rate.median for rate in rates.values()]
        axes.bar(places, heights, width * 0.95, yerr=_errors(rates.values()), capsize=3, label=kind)
    axes.set_xticks(range(len(result.sizes)), result.sizes)
    axes.set(title="Throughput, everything on the same cores", ylabel="images/s")
    axes.legend()


def _cpu(result: BenchmarkResult, axes: Any) -> None:
    workloads = _workloads(result)
    roles = next(iter(workloads.values())).cpu_ms
    _stack_bars(
        axes, workloads, {role: [load.cpu_ms[role].median for load in workloads.values()] for role in roles}
    )
    for place, label in enumerate(workloads):
        baselines = result.sizes[label.partition("\n")[0]].baselines
        for (weights, limit), style in zip(baselines.items(), ("dashed", "dotted"), strict=False):
            title = None if place else f"baseline, {weights}"
            ends = place - 0.45, place + 0.45
            axes.hlines(limit.cpu_ms.median, *ends, "black", style, label=title)
    axes.set(title="CPU time of an image", ylabel="ms")
    axes.legend()


def _latency(result: BenchmarkResult, axes: Any) -> None:
    for share in ("p50", "p95", "p99"):
        values = [getattr(measured.latency, share) for measured in result.latency.values()]
        medians = [value.median for value in values]
        axes.errorbar(list(result.latency), medians, yerr=_errors(values), marker="o", capsize=3, label=share)
    axes.set(
        title=f"Upload to result, {result.settings['main']}", xlabel="workload", ylabel="ms", ylim=(0, None)
    )
    axes.legend()


def _stages(result: BenchmarkResult, axes: Any) -> None:
    workloads = _workloads(result)
    stages = [workload.stages for workload in workloads.values()]
    times = {stage: [measured.stages[stage] for measured in stages] for stage in STAGES}
    _stack_bars(axes, workloads, {**times, "handover": [measured.handover for measured in stages]})
    axes.set(title="Worker time of an image, by stage", ylabel="ms")
    axes.legend()


def _backlog(result: BenchmarkResult, axes: Any) -> None:
    waiting = result.backlog.waiting[:-1]  # The last repeats the first.
    labels = [f"{calls.pending:,}" for calls in waiting]
    for kind in ("submit", "poll"):
        for share, style in (("p50", "-"), ("p99", ":")):
            medians = [getattr(getattr(calls, kind), share).median for calls in waiting]
            axes.plot(labels, medians, style, marker="o", label=f"{kind} {share}")
    axes.set(title="Calls with a backlog", xlabel="jobs pending", ylabel="ms", ylim=(0, None))
    axes.legend()


def _scale(result: BenchmarkResult, axes: Any) -> None:
    labels = [str(scaling.workers) for scaling in result.scale]
    for kind in ("single", "bulk"):
        axes.plot(labels, [getattr(scaling, kind).median for scaling in result.scale], marker="o", label=kind)
    axes.set(
        title=f"Throughput by workers, {result.settings['main']}",
        xlabel="workers",
        ylabel="images/s",
        ylim=(0, None),
    )
    axes.legend()


def _workloads(result: BenchmarkResult) -> dict[str, Throughput]:
    """Return every workload of every size by its label."""
    return {
        f"{name}\n{kind}": workload
        for name, size in result.sizes.items()
        for kind, workload in size.workloads.items()
    }


def _stack_bars(axes: Any, labels: Iterable[str], parts: Mapping[str, Sequence[float]]) -> None:
    """Draw one bar for each label, with the parts on top of each other."""
    places = list(labels)
    bottoms = [0.0] * len(places)
    for name, heights in parts.items():
        axes.bar(places, heights, 0.7, bottom=bottoms, label=name)
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]


def _errors(values: Iterable[Spread]) -> list[list[float]]:
    """Return the error bars below and above each median."""
    spreads = list(values)
    return [
        [spread.median - spread.low for spread in spreads],
        [spread.high - spread.median for spread in spreads],
    ]


_PLOTS: Final[dict[str, Callable[[BenchmarkResult, Any], None]]] = {
    "throughput": _throughput,
    "cpu": _cpu,
    "latency": _latency,
    "stages": _stages,
    "backlog": _backlog,
    "workers": _scale,
}
