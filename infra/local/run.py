"""One supervised life of a stack: from the first process to the last."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.process import Process
from infra.local.service import Service
from infra.local.signals import Signals
from infra.local.state import write_state
from infra.local.supervisor import Supervisor
from infra.local.view import View


@dataclass(frozen=True, kw_only=True)
class Life:
    """What to run and what to tell the person who runs it."""

    folder: DataFolder
    lock: int
    """File descriptor of the folder's lock, which the guard holds too."""
    stages: Sequence[Sequence[Service]]
    announce: Callable[[], None]
    """Called when everything is ready."""
    status: Callable[[Sequence[Process]], str]
    """The live line."""
    url: str | None = None
    host: str | None = None
    port: int | None = None

    def run(self, view: View) -> None:
        """Start, watch, and when told to stop, stop.

        Raises:
            StartError, InterruptedStartError: as `Supervisor.start`; nothing runs any more.
        """
        with Signals() as signals:
            guard = Guard(self.lock)
            try:
                self._supervise(Supervisor(self.stages, guard, signals, view.event, self._write), view)
            finally:
                guard.close()
                self.folder.state.unlink(missing_ok=True)

    def _supervise(self, supervisor: Supervisor, view: View) -> None:
        supervisor.start()
        try:
            self.announce()
            view.open(self.status(supervisor.processes))
            supervisor.run(lambda: view.update(lambda: self.status(supervisor.processes)))
        finally:
            view.close()
            view.say("Stopping: requests and batches in progress are finished first. Ctrl-C again: at once.")
            supervisor.stop()
        view.say("Stopped.")

    def _write(self, processes: Sequence[Process]) -> None:
        write_state(self.folder, self.url, self.host, self.port, processes)
