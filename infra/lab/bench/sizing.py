"""Capacity planning: workers and cores for a number of cameras, from measured CPU time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from infra.lab.bench.usage import LOAD_GENERATOR, WORKER_CHILD, WORKER_PARENT

HEADROOM: Final = 0.8
"""Planned utilisation of a core; latency is measured at the same share of the maximum."""

CAMERAS: Final = (1, 4, 16, 64, 256)
FRAMES_PER_SECOND: Final = (1, 5, 10, 25)

_WORKER: Final = (WORKER_PARENT, WORKER_CHILD)


@dataclass(frozen=True, slots=True)
class Need:
    """Workers (one core each) for a number of cameras, and cores for the API, Redis and the S3 server."""

    cameras: int
    frames_per_second: int
    workers: int
    other_cores: int


@dataclass(frozen=True, slots=True)
class Sizing:
    """CPU milliseconds of a single upload of the main size, in workers and elsewhere; needs of fleets."""

    worker_ms: float
    other_ms: float
    needs: tuple[Need, ...]


def size_fleet(cpu_ms: Mapping[str, float]) -> Sizing:
    """Return the table for CPU milliseconds an image by process; the load generator does not count."""
    worker = sum(cpu_ms[role] for role in _WORKER)
    other = sum(used for role, used in cpu_ms.items() if role not in (*_WORKER, LOAD_GENERATOR))
    needs = tuple(
        Need(cameras, rate, _cores(cameras * rate, worker), _cores(cameras * rate, other))
        for cameras in CAMERAS
        for rate in FRAMES_PER_SECOND
    )
    return Sizing(worker, other, needs)


def _cores(images_per_second: float, cpu_ms: float) -> int:
    return max(1, math.ceil(images_per_second * cpu_ms / 1000 / HEADROOM))
