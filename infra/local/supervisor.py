"""Supervisor: starts services stage by stage, restarts them, stops them in order."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from typing import Final

from infra.local.errors import InterruptedStartError, StackError, StartError
from infra.local.guard import Guard
from infra.local.logs import rotate
from infra.local.process import MAX_QUICK, SILENT_SECONDS, Process
from infra.local.service import Service
from infra.local.signals import Signals

_TICK: Final = 0.05
"""Seconds between two looks during a start or stop; signals interrupt it."""

_IDLE_TICK: Final = 1.0
_ROTATE_SECONDS: Final = 60.0


class Supervisor:
    """Runs stages of services; a stage starts when the previous one is ready.

    Args:
        stages: services that start together, in order.
        guard: ends the processes if the supervisor is killed.
        signals: the stop signals of this process.
        say: prints one line for the person who started the stack.
        changed: called with every process when one of them has started, become ready or ended.
    """

    def __init__(
        self,
        stages: Sequence[Sequence[Service]],
        guard: Guard,
        signals: Signals,
        say: Callable[[str], None],
        changed: Callable[[Sequence[Process]], None] = lambda _: None,
    ) -> None:
        self._stages = [[Process(service, guard) for service in stage] for stage in stages]
        self._guard = guard
        self._signals = signals
        self._say = say
        self._changed = changed
        self._rotate_at = time.monotonic() + _ROTATE_SECONDS

    @property
    def processes(self) -> list[Process]:
        """Every process that should run, in the order of the start."""
        return [process for stage in self._stages for process in stage if not process.service.once]

    @property
    def ready(self) -> bool:
        """Whether every process is ready."""
        return all(process.ready for process in self.processes)

    def start(self) -> None:
        """Start every service; return when all are ready.

        Raises:
            StartError: a process ended or did not become ready; all have been stopped.
            InterruptedStartError: a stop signal arrived; all have been stopped.
        """
        try:
            for stage in self._stages:
                self._start_stage(stage)
        except BaseException:
            self.stop()
            raise

    def run(self, each_tick: Callable[[], None] = lambda: None) -> None:
        """Supervise the processes until a stop signal arrives."""
        while not self._signals.stops:
            self._guard.check()
            for process in self.processes:
                self._watch(process)
            self._rotate_logs()
            each_tick()
            self._signals.wait(self._next_look())

    def stop(self) -> None:
        """Stop the services in the order of `stop_rank`; at a second stop signal kill the rest."""
        processes = [process for stage in self._stages for process in stage]
        for rank in sorted({process.service.stop_rank for process in processes}):
            self._stop_all([process for process in processes if process.service.stop_rank == rank])

    def _start_stage(self, stage: list[Process]) -> None:
        for process in stage:
            process.start()
        self._changed(self.processes)
        waiting = list(stage)
        while waiting:
            self._raise_if_interrupted()
            waiting = [process for process in waiting if not self._is_up(process)]
            if waiting:
                self._signals.wait(_TICK)
        self._changed(self.processes)

    def _is_up(self, process: Process) -> bool:
        service = process.service
        status = process.ended()
        if service.once and status == 0:
            return True
        if status is not None:
            mended = service.mend()
            if mended is None:
                raise StartError(
                    f"{service.name} ended {_describe_end(status)} at its start. {_log(process)}"
                )
            self._say(mended)
            process.start()
        if process.age > service.start_seconds:
            raise StartError(
                f"{service.name} was not ready after {service.start_seconds:.0f} seconds. {_log(process)}"
            )
        return not service.once and process.check_ready()

    def _raise_if_interrupted(self) -> None:
        if self._signals.stops:
            raise InterruptedStartError("Stopped before every process was ready.")

    def _watch(self, process: Process) -> None:
        name = process.service.name
        was_ready = process.ready
        status = process.ended()
        if status is not None:
            pause = process.plan_restart()
            self._say(f"{name} ended {_describe_end(status)}; {_plan(process, pause)}")
            if not was_ready:
                self._mend(process)
            self._changed(self.processes)
        if process.is_silent():
            self._say(f"{name} runs, but has sent no heartbeat for {SILENT_SECONDS:.0f} s; ending it.")
            process.signal(signal.SIGKILL)
        if process.start_at is not None and time.monotonic() >= process.start_at:
            self._restart(process)
        if not process.ready and process.check_ready():
            self._say(f"{name} is ready again.")
            self._changed(self.processes)

    def _mend(self, process: Process) -> None:
        try:
            mended = process.service.mend()
        except (OSError, StackError) as error:
            mended = str(error)  # A person has to act; the other processes run on.
        if mended is not None:
            self._say(mended)

    def _restart(self, process: Process) -> None:
        try:
            process.start()
        except (OSError, StackError) as error:
            # No memory for a fork, or a full disk: it may pass, and the other processes run on.
            process.quick_deaths += 1
            pause = process.plan_restart()
            if process.quick_deaths < MAX_QUICK:  # Later messages would only repeat it.
                self._say(f"{process.service.name} cannot be started ({error}); {_plan(process, pause)}")
        self._changed(self.processes)

    def _next_look(self) -> float:
        return _IDLE_TICK if self.ready else 4 * _TICK

    def _rotate_logs(self) -> None:
        if time.monotonic() >= self._rotate_at:
            self._rotate_at = time.monotonic() + _ROTATE_SECONDS
            for process in self.processes:
                rotate(process.service.log)

    def _stop_all(self, processes: list[Process]) -> None:
        since = time.monotonic()
        for process in processes:
            process.start_at = None
            process.signal(signal.SIGTERM)
        while processes := [
            process for process in processes if self._still_runs(process, time.monotonic() - since)
        ]:
            self._signals.wait(_TICK)
        self._changed(self.processes)

    def _still_runs(self, process: Process, seconds: float) -> bool:
        if process.ended() is None and (self._signals.stops > 1 or seconds > process.service.stop_seconds):
            process.kill()
        return process.pid is not None


def _describe_end(status: int) -> str:
    if status < 0:
        return f"by signal {-status} ({signal.Signals(-status).name})"
    return f"with exit code {status}"


def _plan(process: Process, pause: float) -> str:
    if process.quick_deaths >= MAX_QUICK:
        return (
            f"it has ended soon after its start {process.quick_deaths} times in a row. "
            f"Restarting it every {pause:.0f} seconds; see {process.service.log}."
        )
    return "restarting it." if not pause else f"restarting it in {pause:g} s."


def _log(process: Process) -> str:
    lines = process.last_lines()
    if not lines:
        return f"Its log, {process.service.log}, is empty."
    return "\n".join([f"The end of its log, {process.service.log}:", *(f"  {line}" for line in lines)])
