"""The report as PNG plots."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
from matplotlib.figure import Figure

from infra.lab.bench.report import Report
from infra.lab.bench.stages import STAGES

_DPI: Final = 110
_INCHES: Final = (9, 5)


def write_plots(found: Report, folder: Path) -> None:
    """Write one PNG for each question into `folder`, which is made.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in _PLOTS.items():
        with mpl.rc_context({"axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
            figure = Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
            draw(found, figure.subplots())
            figure.savefig(folder / f"{name}.png")


def _throughput(found: Report, axes: Any) -> None:
    kinds = ["limit", *next(iter(found.sizes.values())).loads]
    for offset, kind in enumerate(kinds):
        bars = [
            (place, size.limit.images_per_second if kind == "limit" else size.loads[kind].images_per_second)
            for place, size in enumerate(found.sizes.values())
            if kind == "limit" or kind in size.loads
        ]
        width = 0.8 / len(kinds)
        heights = [one.median for _, one in bars]
        errors = [
            [one.median - one.low for _, one in bars],
            [one.high - one.median for _, one in bars],
        ]
        places = [place + (offset - (len(kinds) - 1) / 2) * width for place, _ in bars]
        axes.bar(places, heights, width * 0.95, yerr=errors, capsize=3, label=kind)
    axes.set_xticks(range(len(found.sizes)), found.sizes)
    axes.set(title="Throughput, everything on the same cores", ylabel="images/s")
    axes.legend()


def _cpu(found: Report, axes: Any) -> None:
    loads = [
        (f"{name}\n{kind}", one) for name, size in found.sizes.items() for kind, one in size.loads.items()
    ]
    bottoms = [0.0] * len(loads)
    for role in loads[0][1].cpu_ms:
        used = [one.cpu_ms[role].median for _, one in loads]
        axes.bar([label for label, _ in loads], used, 0.7, bottom=bottoms, label=role)
        bottoms = [bottom + more for bottom, more in zip(bottoms, used, strict=True)]
    for place, (label, _) in enumerate(loads):
        limit = found.sizes[label.partition("\n")[0]].limit.cpu_ms.median
        axes.hlines(
            limit, place - 0.45, place + 0.45, "black", "dashed", label="limit" if not place else None
        )
    axes.set(title="CPU time of an image", ylabel="ms")
    axes.legend()


def _latency(found: Report, axes: Any) -> None:
    for share in ("p50", "p95", "p99"):
        values = [getattr(one.latency, share) for one in found.latency.values()]
        medians = [one.median for one in values]
        errors = [[one.median - one.low for one in values], [one.high - one.median for one in values]]
        axes.errorbar(list(found.latency), medians, yerr=errors, marker="o", capsize=3, label=share)
    axes.set(title=f"Upload to answer, {found.settings['main']}", xlabel="load", ylabel="ms", ylim=(0, None))
    axes.legend()


def _stages(found: Report, axes: Any) -> None:
    loads = [
        (f"{name}\n{kind}", one.stages)
        for name, size in found.sizes.items()
        for kind, one in size.loads.items()
    ]
    bottoms = [0.0] * len(loads)
    for stage in (*STAGES, "handover"):
        times = [one.handover if stage == "handover" else one.stages[stage] for _, one in loads]
        axes.bar([label for label, _ in loads], times, 0.7, bottom=bottoms, label=stage)
        bottoms = [bottom + more for bottom, more in zip(bottoms, times, strict=True)]
    axes.set(title="Where a worker's time goes, of an image", ylabel="ms")
    axes.legend()


def _growth(found: Report, axes: Any) -> None:
    waiting = found.growth.waiting[:-1]  # The last repeats the first.
    labels = [f"{one.pending:,}" for one in waiting]
    for kind in ("submit", "poll"):
        for share, style in (("p50", "-"), ("p99", ":")):
            medians = [getattr(getattr(one, kind), share).median for one in waiting]
            axes.plot(labels, medians, style, marker="o", label=f"{kind} {share}")
    axes.set(title="Calls while jobs wait", xlabel="jobs pending", ylabel="ms", ylim=(0, None))
    axes.legend()


def _scale(found: Report, axes: Any) -> None:
    labels = [str(one.workers) for one in found.scale]
    for kind in ("single", "bulk"):
        axes.plot(labels, [getattr(one, kind).median for one in found.scale], marker="o", label=kind)
    axes.set(
        title=f"Throughput by workers, {found.settings['main']}",
        xlabel="workers",
        ylabel="images/s",
        ylim=(0, None),
    )
    axes.legend()


_PLOTS: Final[dict[str, Callable[[Report, Any], None]]] = {
    "throughput": _throughput,
    "cpu": _cpu,
    "latency": _latency,
    "stages": _stages,
    "growth": _growth,
    "workers": _scale,
}
