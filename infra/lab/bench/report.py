"""What a run found out; `as_json` is the schema that docs/performance.md explains."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Final

from infra.lab.bench.backlog import Backlog
from infra.lab.bench.figures import Latency, Spread
from infra.lab.bench.sizing import Sizing
from infra.lab.bench.stages import Stages
from infra.lab.bench.usage import Memory

FORMAT: Final = 1
"""Version of the JSON; it changes when a figure changes its place or its meaning."""


@dataclass(frozen=True, slots=True)
class Frames:
    """The frames of one size."""

    width: int
    height: int
    count: int
    mean_bytes: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """Bare decode and inference. `cpu_ms`: CPU milliseconds an image."""

    images_per_second: Spread
    cpu_ms: Spread


@dataclass(frozen=True, slots=True)
class Throughput:
    """The pipeline under one kind of load that it cannot satisfy.

    `ratio`: images/s divided by the limit's of the same round. `cpu_ratio`: the limit's CPU time an image
    divided by all CPU time an image, `cpu_ms_total`; other programs on the machine disturb it less. `cpu_ms`:
    by process, the load generator among them. `busy`: share of the cores that were not idle. `refused`:
    uploads that were answered 429 or 503 and sent again.
    """

    images_per_second: Spread
    ratio: Spread
    cpu_ratio: Spread
    cpu_ms: dict[str, Spread]
    cpu_ms_total: Spread
    busy: Spread
    refused: int
    stages: Stages


@dataclass(frozen=True, slots=True)
class SizeResult:
    """All of one size; `loads` by `single`, `bulk` and, with the main size, `awaited`.

    `limit` is that of the weights that the workers run, `limits` those of all of the model's: float and int8.
    """

    frames: Frames
    limit: Baseline
    limits: dict[str, Baseline]
    loads: dict[str, Throughput]


@dataclass(frozen=True, slots=True)
class Answering:
    """Upload to answer, at `rate` images/s (0: one after the other).

    `late_ms`: the 99th percentile of how late the load generator itself was.
    """

    rate: float
    latency: Latency
    late_ms: float
    stages: Stages


@dataclass(frozen=True, slots=True)
class Accepting:
    """Uploads alone, without workers."""

    images_per_second: Spread
    cpu_ms: dict[str, Spread]


@dataclass(frozen=True, slots=True)
class Scale:
    """Throughput with this number of workers, images/s."""

    workers: int
    single: Spread
    bulk: Spread


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """Start, and memory after the load of the main size; parents and children by name."""

    start_seconds: Spread
    memory: dict[str, Memory]


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything."""

    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    sizes: dict[str, SizeResult]
    latency: dict[str, Answering]
    accepting: dict[str, Accepting]
    growth: Backlog
    scale: tuple[Scale, ...]
    processes: dict[str, ProcessResult]
    sizing: Sizing
    warnings: tuple[str, ...] = field(default=())

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types."""
        return {"format": FORMAT, **asdict(self)}
