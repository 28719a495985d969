"""How a stack is, in one line or in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from core.disk import shortage
from infra.local import ports
from infra.local.checkout import PROGRAM
from infra.local.folder import DataFolder
from infra.local.health import lost_data, read_health
from infra.local.process import Process
from infra.local.state import ProcessState, memory_of, read_state


@dataclass(frozen=True)
class Status:
    """What `status` prints. `health` is the API's own answer, empty if it gives none."""

    running: bool
    ready: bool
    url: str | None
    processes: tuple[ProcessState, ...]
    health: dict[str, Any]
    disk: str | None
    """What the disk lacks; None while there is room."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON's types; memory in bytes, uptime in seconds."""
        return {
            "running": self.running,
            "ready": self.ready,
            "url": self.url,
            "processes": [
                {
                    "name": one.name,
                    "pid": one.pid,
                    "ready": one.ready and one.lives,
                    "restarts": one.restarts,
                    "uptime": round(one.uptime, 1),
                    "memory": one.memory,
                }
                for one in self.processes
            ],
            "health": self.health,
            "disk": self.disk,
        }


def read_status(folder: DataFolder, key: str | None = None, *, timeout: float = 0.5) -> Status:
    """Look at the lock, the state file, the disk and the API.

    Args:
        folder: the stack's.
        key: an API key, for the API's figures.
        timeout: seconds that the API may take to say what it waits for.
    """
    supervisor = folder.supervisor()
    state = read_state(folder) if supervisor else None
    running = supervisor is not None
    disk = shortage(folder.path) if running else None
    if state is None:
        return Status(running=running, ready=False, url=None, processes=(), health={}, disk=disk)
    code = int(HTTPStatus.OK)
    health: dict[str, Any] = {}
    if state.host is not None and state.port is not None:
        code, health = read_health(state.host, state.port, key, timeout=timeout)
    ready = code == HTTPStatus.OK and all(one.ready and one.lives for one in state.processes)
    return Status(
        running=True, ready=ready, url=state.url, processes=state.processes, health=health, disk=disk
    )


def live_line(host: str, port: int, processes: Sequence[Process]) -> str:
    """Return the line that `up` keeps on the terminal."""
    _, health = read_health(ports.dial(host), port)
    parts = (_readiness(processes), _queue(health), _memory(processes), "Ctrl-C stops")
    return " · ".join(part for part in parts if part)


def workers_line(processes: Sequence[Process]) -> str:
    """Return the line that `worker` keeps on the terminal."""
    return f"{_readiness(processes)} · {_memory(processes)} · Ctrl-C stops"


def _readiness(processes: Sequence[Process]) -> str:
    missing = [one.service.name for one in processes if not one.ready]
    return f"waiting for {', '.join(missing)}" if missing else f"{len(processes)} processes ready"


def _queue(health: dict[str, Any]) -> str:
    if not health:
        return "the API does not answer"
    if lost_data(health):
        return f"CLOSED, data were lost ({PROGRAM} status)"
    pending = health.get("pending")  # which it tells everyone only while it needs no keys
    return "" if pending is None else f"{pending:,} jobs in progress"


def _memory(processes: Sequence[Process]) -> str:
    return f"{sum(memory_of(one.pid) for one in processes) / 1e6:,.0f} MB"
