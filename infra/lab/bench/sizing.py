"""How many workers, and cores, a fleet of cameras needs by what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.lab.bench.usage import LOAD

HEADROOM: Final = 0.8
"""Share of a core's time to plan with: the load at which latency was measured, too."""

CAMERAS: Final = (1, 4, 16, 64, 256)
FRAMES_PER_SECOND: Final = (1, 5, 10, 25)

_WORKER: Final = ("worker parent", "worker child")


@dataclass(frozen=True, slots=True)
class Need:
    """Workers (one core each) for some cameras, and cores for the API, Redis and storage besides."""

    cameras: int
    frames_per_second: int
    workers: int
    other_cores: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """Single uploads of the main size. CPU milliseconds an image, of workers and of everything else."""

    worker_ms: float
    other_ms: float
    needs: tuple[Need, ...]


def size_fleet(cpu_ms: Mapping[str, float]) -> Sizing:
    """Return the table for CPU milliseconds an image by process; the load generator's are left out."""
    worker = sum(cpu_ms[role] for role in _WORKER)
    other = sum(used for role, used in cpu_ms.items() if role not in (*_WORKER, LOAD))
    needs = tuple(
        Need(cameras, rate, _cores(cameras * rate, worker), _cores(cameras * rate, other))
        for cameras in CAMERAS
        for rate in FRAMES_PER_SECOND
    )
    return Sizing(worker, other, needs)


def _cores(images_per_second: float, cpu_ms: float) -> int:
    return max(1, math.ceil(images_per_second * cpu_ms / 1000 / HEADROOM))
