"""CPU time and memory of the stack's processes, by role."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import psutil

from infra.cli.options import cores
from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.stack import SUPERVISOR, Stack
from worker.periodic import retention

Roles = Mapping[str, Sequence[psutil.Process]]

LOAD_GENERATOR = "load generator"
"""The role of this process, which sends the images."""

WORKER_PARENT, WORKER_CHILD = "worker parent", "worker child"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process. `rss` counts shared pages in full, `pss` their share, `uss` not at all.

    `pss` and `uss` are 0 on systems that do not report them.
    """

    rss: int
    pss: int
    uss: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU seconds until `at` (Unix time): used by each role, and idle of the cores of this process."""

    at: float
    cpu: dict[str, float]
    idle: float


def roles_of(stack: Stack, joined: Sequence[psutil.Process] = ()) -> dict[str, list[psutil.Process]]:
    """Return the stack's processes by role, with those of the workers that have `joined` it.

    Raises:
        BrokenPipelineError: a process has ended since the start.
    """
    services = stack.processes()
    supervisor = stack.pid(SUPERVISOR)
    if not supervisor or not services or any(service.restarts or not service.pid for service in services):
        raise BrokenPipelineError(f"A process of the stack has ended. {stack.last_lines()}")
    roles: dict[str, list[psutil.Process]] = {SUPERVISOR: [psutil.Process(supervisor)]}
    for service in services:
        process = psutil.Process(service.pid)
        if service.name in stack.workers:
            _add_worker(roles, process)
        elif service.name == "api":
            roles[service.name] = [process, *process.children()]
        else:  # A child of Redis rewrites its file and ends.
            roles[service.name] = [process]
    for process in joined:
        _add_worker(roles, process)
    return roles


def snapshot(roles: Roles) -> Snapshot:
    """Read the clocks of all processes.

    Raises:
        BrokenPipelineError: a process has ended.
    """
    used = {role: sum(map(_cpu_seconds, processes)) for role, processes in roles.items()}
    return Snapshot(time.time(), {**used, LOAD_GENERATOR: time.process_time()}, _idle_seconds())


def memory(process: psutil.Process) -> Memory:
    """Return the memory of a process."""
    info = process.memory_full_info()
    return Memory(info.rss, getattr(info, "pss", 0), getattr(info, "uss", 0))


def _add_worker(roles: dict[str, list[psutil.Process]], parent: psutil.Process) -> None:
    try:
        children = parent.children()
    except psutil.NoSuchProcess as error:
        raise BrokenPipelineError(f"Worker {parent.pid} ended before it was measured.") from error
    roles.setdefault(WORKER_PARENT, []).append(parent)
    roles.setdefault(WORKER_CHILD, []).extend(filter(_classifies, children))


def _classifies(child: psutil.Process) -> bool:
    """Return whether a worker's child is the one that lasts: a retention sweep comes and goes."""
    try:
        command = child.cmdline()
    except psutil.NoSuchProcess:
        return False
    return bool(command) and retention.__name__ not in command  # An ended process has no command line.


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess as error:
        raise BrokenPipelineError(
            f"Process {process.pid} of the stack ended while it was measured."
        ) from error
    return float(times.user + times.system)


def _idle_seconds() -> float:
    """Return the idle time of this process' cores; a core that only waits for a disk is idle."""
    times = psutil.cpu_times(percpu=True)
    if cores() < len(times):
        times = [times[core] for core in os.sched_getaffinity(0)]
    return sum(core.idle + getattr(core, "iowait", 0.0) for core in times)
