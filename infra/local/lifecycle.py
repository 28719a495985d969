"""Lifecycle of a supervised stack: start, supervision, stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from core.disk import shortage
from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.process import Process
from infra.local.service import Service
from infra.local.signals import Signals
from infra.local.state import write_state
from infra.local.supervisor import Supervisor
from infra.local.view import View


@dataclass(frozen=True, kw_only=True)
class Lifecycle:
    """The services to run and the output for the person who runs them."""

    folder: DataFolder
    lock: int
    """File descriptor of the folder's lock, which the guard holds too."""
    stages: Sequence[Sequence[Service]]
    announce: Callable[[], None]
    """Called when every process is ready."""
    status: Callable[[Sequence[Process]], str]
    """The live line."""
    url: str | None = None
    host: str | None = None
    port: int | None = None

    def run(self, view: View) -> None:
        """Start the services, supervise them, and stop them at a stop signal.

        Raises:
            StartError, InterruptedStartError: as `Supervisor.start`; no process is left.
        """
        with Signals() as signals:
            guard = Guard(self.lock)
            state = _StateFile(self)
            try:
                supervisor = Supervisor(self.stages, guard, signals, view.event, state.write)
                self._supervise(supervisor, view, state)
            finally:
                guard.close()
                self.folder.state.unlink(missing_ok=True)

    def _supervise(self, supervisor: Supervisor, view: View, state: _StateFile) -> None:
        disk = _DiskNotice(self.folder, view)
        supervisor.start()

        def each_tick() -> None:
            state.write_again(supervisor.processes)
            disk.look()
            view.update(lambda: self.status(supervisor.processes))

        try:
            self.announce()
            view.open(self.status(supervisor.processes))
            supervisor.run(each_tick)
        finally:
            view.close()
            view.say("Stopping after the requests and batches in progress. Ctrl-C again stops at once.")
            supervisor.stop()
        view.say("Stopped.")


class _StateFile:
    """The file that `status` reads; a failed write is repeated."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._written = True

    def write(self, processes: Sequence[Process]) -> None:
        """Write the file if possible."""
        lifecycle = self._lifecycle
        self._written = write_state(
            lifecycle.folder, lifecycle.url, lifecycle.host, lifecycle.port, processes
        )

    def write_again(self, processes: Sequence[Process]) -> None:
        """Repeat a failed write."""
        if not self._written:
            self.write(processes)


class _DiskNotice:
    """Reports once that the disk is full, and once that it has space again."""

    def __init__(self, folder: DataFolder, view: View) -> None:
        self._folder = folder
        self._view = view
        self._full = False

    def look(self) -> None:
        """Check the disk."""
        lacks = shortage(self._folder.path)
        if lacks is not None and not self._full:
            self._view.event(lacks)
        elif lacks is None and self._full:
            self._view.event(f"The disk of {self._folder.path} has free space again.")
        self._full = lacks is not None
