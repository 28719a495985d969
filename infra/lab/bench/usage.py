"""What processes use: CPU time and memory, by role."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from infra.lab.bench.errors import BrokenPipelineError

Roles = Mapping[str, Sequence[psutil.Process]]

LOAD = "load"
"""The role of this process, which sends the images."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process. `rss` counts shared pages in full, `pss` their share, `uss` not at all.

    `pss` and `uss` are 0 where the system does not say.
    """

    rss: int
    pss: int
    uss: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds used until `at` (Unix time): of each role, and of all cores while idle."""

    at: float
    cpu: dict[str, float]
    idle: float


def snapshot(roles: Roles) -> Snapshot:
    """Read the clocks of all processes.

    Raises:
        BrokenPipelineError: one of them has ended.
    """
    used = {role: sum(map(_cpu_seconds, processes)) for role, processes in roles.items()}
    return Snapshot(time.time(), {**used, LOAD: time.process_time()}, psutil.cpu_times().idle)


def memory(process: psutil.Process) -> Memory:
    """Return what a process holds."""
    found = process.memory_full_info()
    return Memory(found.rss, getattr(found, "pss", 0), getattr(found, "uss", 0))


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess as error:
        raise BrokenPipelineError(
            f"Process {process.pid} of the stack ended while it was measured."
        ) from error
    return float(times.user + times.system)
