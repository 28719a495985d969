"""What the supervisor writes down of its processes, and what `status` makes of it."""

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
    """One process as the supervisor last saw it; `started_at` is Unix time."""

    name: str
    pid: int | None
    ready: bool
    restarts: int
    started_at: float

    @property
    def lives(self) -> bool:
        """Whether the process is there: while the disk is full the supervisor cannot write that it ended."""
        return self.pid is not None and lives(self.pid)

    @property
    def uptime(self) -> float:
        """Seconds since the last start; 0 while it does not run."""
        return time.time() - self.started_at if self.lives else 0.0

    @property
    def memory(self) -> int:
        """Bytes of memory that the process and its children hold (resident set size)."""
        return memory_of(self.pid)


@dataclass(frozen=True)
class State:
    """A running supervisor: where its API listens (no address: there is none), and its processes."""

    host: str | None
    port: int | None
    url: str | None
    processes: tuple[ProcessState, ...]


def write_state(
    folder: DataFolder, url: str | None, host: str | None, port: int | None, processes: Sequence[Process]
) -> bool:
    """Write the state file; return whether that went. It only informs: a full disk must not stop us."""
    found = tuple(
        ProcessState(one.service.name, one.pid, one.ready, one.restarts, one.started_at) for one in processes
    )
    try:
        write_private(folder.state, json.dumps(asdict(State(host, port, url, found)), indent=1) + "\n")
    except OSError:
        return False
    return True


def read_state(folder: DataFolder) -> State | None:
    """Read the state file; None if there is none that can be read."""
    try:
        data = json.loads(folder.state.read_text(encoding="utf-8"))
        processes = tuple(ProcessState(**one) for one in data.pop("processes"))
        return State(**data, processes=processes)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def memory_of(pid: int | None) -> int:
    """Return the resident set size of a process and its children, bytes; 0 if it is gone."""
    if pid is None:
        return 0
    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for one in family:
        with contextlib.suppress(psutil.Error):  # It ended meanwhile.
            total += one.memory_info().rss
    return total
