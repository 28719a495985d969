"""Result of a benchmark; docs/performance.md explains the JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from infra.lab.bench.backlog import Backlog
from infra.lab.bench.sizing import Sizing
from infra.lab.bench.spread import Latency, Spread
from infra.lab.bench.stages import Stages
from infra.lab.bench.usage import Memory

FORMAT: Final = 2
"""Version of the JSON; it changes when a figure changes its name, place or meaning."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one size."""

    width: int
    height: int
    count: int
    mean_bytes: int


@dataclass(frozen=True, slots=True)
class BaselineResult:
    """Bare decode and inference. `cpu_ms`: CPU milliseconds an image."""

    images_per_second: Spread
    cpu_ms: Spread


@dataclass(frozen=True, slots=True)
class Throughput:
    """The pipeline under one workload that saturates it.

    `ratio`: images/s divided by the baseline's of the same round. `cpu_ratio`: the baseline's CPU time an
    image divided by that of all processes, `cpu_ms_total`; other programs disturb it less. `cpu_ms`: by
    role, the load generator among them. `busy`: share of the cores that was not idle. `retried`: uploads
    answered 429 or 503 and sent again.
    """

    images_per_second: Spread
    ratio: Spread
    cpu_ratio: Spread
    cpu_ms: dict[str, Spread]
    cpu_ms_total: Spread
    busy: Spread
    retried: int
    stages: Stages


@dataclass(frozen=True, slots=True)
class SizeResult:
    """All figures of one size. `workloads`: `single`, `bulk` and, for the main size, `awaited`.

    `baseline` is measured with the workers' weights, `baselines` with each of the model's: float and int8.
    """

    frames: Frames
    baseline: BaselineResult
    baselines: dict[str, BaselineResult]
    workloads: dict[str, Throughput]


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """Upload to result at `rate` images/s (0: one after the other).

    `late_ms`: 99th percentile of the load generator's own delay.
    """

    rate: float
    latency: Latency
    late_ms: float
    stages: Stages


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Uploads without workers."""

    images_per_second: Spread
    cpu_ms: dict[str, Spread]


@dataclass(frozen=True, slots=True)
class ScalingResult:
    """Throughput by number of workers, images/s."""

    workers: int
    single: Spread
    bulk: Spread


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Start-up time, and memory after the workloads of the main size; parents and children by name."""

    start_seconds: Spread
    memory: dict[str, Memory]


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """All figures of one benchmark."""

    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    sizes: dict[str, SizeResult]
    latency: dict[str, LatencyResult]
    accepting: dict[str, IngestResult]
    backlog: Backlog
    scale: tuple[ScalingResult, ...]
    processes: dict[str, ProcessResult]
    sizing: Sizing
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON's types."""
        return {"format": FORMAT, **asdict(self)}
