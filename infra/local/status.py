"""Status of a stack, in one line or in full."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from core.disk import shortage
from infra.local import ports
from infra.local.checkout import PROGRAM
from infra.local.folder import DataFolder
from infra.local.http_probes import lost_data, read_health
from infra.local.process import Process
from infra.local.state import ProcessState, memory_of, read_state


@dataclass(frozen=True)
class Status:
    """Status of a stack. `health` is the API's response, empty without one."""

    running: bool
    ready: bool
    url: str | None
    processes: tuple[ProcessState, ...]
    health: dict[str, Any]
    disk: str | None
    """Sentence on a full disk; None while it has space."""

    def as_json(self) -> dict[str, Any]:
        """Return the status as JSON's types; memory in bytes, uptime in seconds."""
        return {
            "running": self.running,
            "ready": self.ready,
            "url": self.url,
            "processes": [
                {
                    "name": process.name,
                    "pid": process.pid,
                    "ready": process.ready and process.lives,
                    "restarts": process.restarts,
                    "uptime": round(process.uptime, 1),
                    "memory": process.memory,
                }
                for process in self.processes
            ],
            "health": self.health,
            "disk": self.disk,
        }


def read_status(folder: DataFolder, key: str | None = None, *, timeout: float = 0.5) -> Status:
    """Read the lock, the state file, the disk and the API.

    Args:
        folder: the data folder.
        key: an API key, for the API's figures.
        timeout: seconds that the API may take to name a dependency that hangs.
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
    ready = code == HTTPStatus.OK and all(process.ready and process.lives for process in state.processes)
    return Status(
        running=True, ready=ready, url=state.url, processes=state.processes, health=health, disk=disk
    )


def live_line(host: str, port: int, processes: Sequence[Process]) -> str:
    """Return the live line of `up`."""
    _, health = read_health(ports.dial(host), port)
    parts = (_readiness(processes), _queue(health), _paused(health), _memory(processes), "Ctrl-C stops")
    return " · ".join(part for part in parts if part)


def workers_line(processes: Sequence[Process]) -> str:
    """Return the live line of `worker`."""
    return f"{_readiness(processes)} · {_memory(processes)} · Ctrl-C stops"


def _readiness(processes: Sequence[Process]) -> str:
    missing = [process.service.name for process in processes if not process.ready]
    return f"waiting for {', '.join(missing)}" if missing else f"{len(processes)} processes ready"


def _queue(health: dict[str, Any]) -> str:
    if not health:
        return "the API does not answer"
    if lost_data(health):
        return f"CLOSED, data were lost ({PROGRAM} status)"
    pending = health.get("pending")  # shown to everyone only while the API needs no keys
    return "" if pending is None else f"{pending:,} jobs in progress"


def _paused(health: dict[str, Any]) -> str:
    return " and ".join(health.get("paused", [])) + " jobs PAUSED" if health.get("paused") else ""


def _memory(processes: Sequence[Process]) -> str:
    return f"{sum(memory_of(process.pid) for process in processes) / 1e6:,.0f} MB"
