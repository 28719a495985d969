"""Arithmetic of docs/scaling.md: `python -m infra.lab.scaling docs/performance/run.json` prints its tables.

Everything follows from measured CPU time and bytes an image, and from settings; nothing is extrapolated from
throughput, which depends on how cores are shared.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from infra.lab.bench.sizing import HEADROOM

CAMERAS: Final = (1, 10, 100, 1_000, 10_000)
FRAMES_PER_SECOND: Final = 5
SIZE: Final = "720p"
WORKLOADS: Final = ("single", "bulk")
RETENTION_HOURS: Final = 168
"""Default retention of results and of images."""

SETTLED_BYTES: Final = 500
"""Redis memory of a settled job until its retention is over (docs/operations.md)."""

REDIS_BYTES: Final = 16e9
"""Memory of the Redis in the table of retention."""

_WORKER: Final = ("worker parent", "worker child")
_PARTS: Final = {"worker": _WORKER, "API": ("api",), "Redis": ("redis",), "S3 server": ("s3",)}
_NOT_PARTS: Final = frozenset({"load generator", "supervisor"})
_WEEK: Final = RETENTION_HOURS * 3600


def cpu_ms(run: Mapping[str, Any], workload: str) -> dict[str, float]:
    """Return CPU milliseconds an image by part of the system: medians of a run of `bench`."""
    used = run["sizes"][SIZE]["workloads"][workload]["cpu_ms"]
    return {part: sum(used[role]["median"] for role in roles) for part, roles in _PARTS.items()}


def total_cpu_ms(run: Mapping[str, Any], workload: str) -> float:
    """Return CPU milliseconds an image of all parts together, also of those that are never full."""
    used = run["sizes"][SIZE]["workloads"][workload]["cpu_ms"]
    return float(sum(used[role]["median"] for role in used.keys() - _NOT_PARTS))


def images_per_second(milliseconds: float) -> float:
    """Return what one core bears at the planned utilisation."""
    return HEADROOM * 1000 / milliseconds


def capacity(run: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of what one core of each part bears."""
    rows = [["one core of", *(f"{workload}: ms, images/s, cameras" for workload in WORKLOADS)]]
    for part in _PARTS:
        row = [part]
        for workload in WORKLOADS:
            used = cpu_ms(run, workload)[part]
            rate = images_per_second(used)
            row.append(f"{used:.2f}, {rate:,.0f}, {rate / FRAMES_PER_SECOND:,.0f}")
        rows.append(row)
    return rows


def needs(run: Mapping[str, Any], workload: str) -> list[list[str]]:
    """Return the table of processes, their memory, and cores by number of cameras, with what all use a day.

    Redis works on one core, so the table says how many stacks.
    """
    rows = [
        [
            "cameras",
            "images/s",
            "workers",
            "API processes",
            "memory of both",
            "S3 server's cores",
            "Redis' core",
            "stacks",
            "core hours a day",
        ]
    ]
    used = cpu_ms(run, workload)
    worker_bytes, api_bytes = (_memory(run, process) for process in ("worker", "api"))
    for cameras in CAMERAS:
        rate = cameras * FRAMES_PER_SECOND
        workers, processes, servers, stacks = (
            max(1, math.ceil(rate / images_per_second(used[part])))
            for part in ("worker", "API", "S3 server", "Redis")
        )
        rows.append(
            [
                f"{cameras:,}",
                f"{rate:,}",
                f"{workers:,}",
                f"{processes:,}",
                _bytes(workers * worker_bytes + processes * api_bytes),
                f"{servers:,}",
                f"{rate * used['Redis'] / 1000:.0%}",
                f"{stacks:,}",
                f"{rate * total_cpu_ms(run, workload) / 1000 * 24:,.1f}",
            ]
        )
    return rows


def _memory(run: Mapping[str, Any], process: str) -> float:
    """Return the memory of a worker, or of an API process with its master, by share (PSS), in bytes."""
    return float(sum(part["pss"] for part in run["processes"][process]["memory"].values()))


def space(run: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of memory, disk and network by number of cameras."""
    rows = [
        [
            "cameras",
            f"Redis for {RETENTION_HOURS} h of results",
            f"hours of results in {REDIS_BYTES / 1e9:.0f} GB",
            f"images of {RETENTION_HOURS} h",
            "into the bucket, and out",
        ]
    ]
    image = run["sizes"][SIZE]["frames"]["mean_bytes"]
    for cameras in CAMERAS:
        rate = cameras * FRAMES_PER_SECOND
        rows.append(
            [
                f"{cameras:,}",
                _bytes(rate * SETTLED_BYTES * _WEEK),
                f"{REDIS_BYTES / (rate * SETTLED_BYTES) / 3600:,.1f}",
                _bytes(rate * image * _WEEK),
                f"{rate * image * 8 / 1e6:,.0f} Mbit/s",
            ]
        )
    return rows


def cost(run: Mapping[str, Any]) -> list[list[str]]:
    """Return the table of resources for a million images, to be multiplied by prices."""
    image = run["sizes"][SIZE]["frames"]["mean_bytes"]
    rows = [["a million images, as", "core hours", "puts and gets each", "GB written and read each"]]
    for workload, objects in zip(WORKLOADS, (1, 16), strict=True):
        hours = total_cpu_ms(run, workload) * 1e6 / 1000 / 3600
        rows.append([workload, f"{hours:.2f}", f"{1e6 / objects:,.0f}", f"{image * 1e6 / 1e9:,.0f}"])
    return rows


def tables(run: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """Return every table by its name."""
    return {
        "capacity": capacity(run),
        **{workload: needs(run, workload) for workload in WORKLOADS},
        "space": space(run),
        "cost": cost(run),
    }


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    head, *body = rows
    return "\n".join(map(_line, [head, ["---"] * len(head), *body]))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _bytes(number: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12)):
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number / 1e9:,.1f} GB"


def main() -> None:
    """Print the tables of a run."""
    run = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for name, rows in tables(run).items():
        sys.stdout.write(f"{name}\n\n{markdown(rows)}\n\n")


if __name__ == "__main__":
    main()
