"""The state file: the supervisor writes it, `status` reads it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import psutil

from infra.local.credentials import write_private
from infra.local.folder import DataFolder, lives
from infra.local.process import Process


@dataclass(frozen=True)
class ProcessState:
    """State of one process when the supervisor last wrote; `started_at` is Unix time."""

    name: str
    pid: int | None
    ready: bool
    restarts: int
    started_at: float

    @property
    def lives(self) -> bool:
        """Whether the process exists: on a full disk the supervisor cannot record its end."""
        return self.pid is not None and lives(self.pid)

    @property
    def uptime(self) -> float:
        """Seconds since the last start; 0 while it does not run."""
        return time.time() - self.started_at if self.lives else 0.0

    @property
    def memory(self) -> int:
        """Resident set size of the process and its children, bytes."""
        return memory_of(self.pid)


@dataclass(frozen=True)
class State:
    """State of a running supervisor: its processes and its API's address, None for workers alone."""

    host: str | None
    port: int | None
    url: str | None
    processes: tuple[ProcessState, ...]


def write_state(
    folder: DataFolder, url: str | None, host: str | None, port: int | None, processes: Sequence[Process]
) -> bool:
    """Write the state file; return whether that succeeded. A full disk must not stop the supervisor."""
    states = tuple(
        ProcessState(process.service.name, process.pid, process.ready, process.restarts, process.started_at)
        for process in processes
    )
    try:
        write_private(folder.state, json.dumps(asdict(State(host, port, url, states)), indent=1) + "\n")
    except OSError:
        return False
    return True


def read_state(folder: DataFolder) -> State | None:
    """Read the state file; None if it is missing or unreadable."""
    try:
        data = json.loads(folder.state.read_text(encoding="utf-8"))
        processes = tuple(ProcessState(**process) for process in data.pop("processes"))
        return State(**data, processes=processes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def memory_of(pid: int | None) -> int:
    """Return the resident set size of a process and its children, bytes; 0 if it has ended."""
    if pid is None:
        return 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for member in family:
        with contextlib.suppress(psutil.Error):  # It has just ended.
            total += member.memory_info().rss
    return total
