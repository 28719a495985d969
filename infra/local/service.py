"""Service: the description of a process for the supervisor."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Service:
    """A process, or with `once` a command that must succeed before the next stage."""

    name: str
    command: list[str]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True
    alive: Callable[[], bool] = lambda: True
    """Liveness probe of a ready process; after `process.SILENT_SECONDS` of failure it is killed."""
    before_start: Callable[[], None] = lambda: None
    tend: Callable[[], None] = lambda: None
    """Called with each liveness probe, every `process.LOOK_SECONDS`."""
    mend: Callable[[], str | None] = lambda: None
    """Called when the process has ended before it was ready. Returns a report of its repair, after which a
    restart may succeed; None without repair. Raises a `StackError` if a person has to act."""
    once: bool = False
    start_seconds: float = 60.0
    """Time to become ready at the start of the stack."""
    stop_rank: int = 0
    """Order of the stop: lower ranks first; equal ranks together."""
    stop_seconds: float = 10.0
    """Time to end after SIGTERM, before SIGKILL."""
    orphan_signal: signal.Signals = signal.SIGTERM
    """Signal from the kernel when the supervisor has ended (Linux)."""
