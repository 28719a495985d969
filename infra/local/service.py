"""What the supervisor is asked to run."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Service:
    """One process, or with `once` a command that has to succeed before the next stage."""

    name: str
    command: list[str]
    folder: Path
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ready: Callable[[], bool] = lambda: True
    alive: Callable[[], bool] = lambda: True
    """Asked while it is ready; one that is not alive for `process.SILENT_SECONDS` is killed."""
    before_start: Callable[[], None] = lambda: None
    tend: Callable[[], None] = lambda: None
    """Called at each look, every `process.LOOK_SECONDS`, while it is ready."""
    mend: Callable[[], str | None] = lambda: None
    """Called when it has ended before it was ready. Says what it changed, so that a new start may succeed;
    None if it found nothing to change. Raises a `StackError` that says what a person has to do."""
    once: bool = False
    start_seconds: float = 60.0
    """How long it may take to get ready when the stack is started."""
    stop_rank: int = 0
    """When everything is stopped, services with a lower rank end first; with the same rank, together."""
    stop_seconds: float = 10.0
    """How long it may take to end after SIGTERM, before it is killed."""
    orphan_signal: signal.Signals = signal.SIGTERM
    """What the kernel sends it when the supervisor is gone (Linux)."""
