"""The supervisor, with small programs of its own to run."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from infra.local import process as process_module
from infra.local.errors import DamagedFileError, FolderFullError, InterruptedStartError, StartError
from infra.local.guard import Guard
from infra.local.service import Service
from infra.local.signals import Signals
from infra.local.supervisor import Supervisor
from tests.support.servers import wait_until

_STUBBORN = "trap '' TERM; touch {ready}; while :; do sleep 0.05; done"


class Bench:
    """A supervisor, its messages, and programs for it."""

    def __init__(self, folder: Path, signals: Signals, guard: Guard) -> None:
        self.folder = folder
        self.signals = signals
        self.guard = guard
        self.said: list[str] = []

    def service(self, name: str, script: str, **options: Any) -> Service:
        """Return a service that runs a shell script."""
        command = ["/bin/sh", "-c", script]
        return Service(
            name=name, command=command, folder=self.folder, log=self.folder / f"{name}.log", **options
        )

    def supervisor(self, *stages: Sequence[Service]) -> Supervisor:
        """Return a supervisor of these stages."""
        return Supervisor(stages, self.guard, self.signals, self.said.append)

    def run_until(self, supervisor: Supervisor, condition: Callable[[], bool]) -> None:
        """Let it watch until the condition holds; its own loop asks."""
        deadline = time.monotonic() + 20

        def look() -> None:
            if condition() or time.monotonic() > deadline:
                self.signals.stops = 1

        supervisor.run(look)
        assert condition()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A bench whose processes are all gone afterwards."""
    with Signals() as signals:
        guard = Guard()
        yield Bench(tmp_path, signals, guard)
        guard.close()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_stage_starts_when_the_one_before_is_ready(bench: Bench) -> None:
    """The second stage finds the file that the first made before it was ready."""
    flag = bench.folder / "flag"
    first = bench.service("first", f"sleep 0.2; touch {flag}; exec sleep 60", ready=flag.exists)
    second = bench.service("second", f"test -e {flag} || exit 9; exec sleep 60")
    supervisor = bench.supervisor([first], [second])
    supervisor.start()
    assert supervisor.ready
    supervisor.stop()
    assert [process.pid for process in supervisor.processes] == [None, None]


def test_a_command_has_to_succeed_and_is_not_supervised(bench: Bench) -> None:
    """A one-shot is over before the next stage, and is no process of the stack."""
    flag = bench.folder / "made"
    stages = (
        [bench.service("make", f"touch {flag}", once=True)],
        [bench.service("use", f"test -e {flag} && sleep 60")],
    )
    supervisor = bench.supervisor(*stages)
    supervisor.start()
    assert [process.service.name for process in supervisor.processes] == ["use"]
    supervisor.stop()


def test_a_death_at_the_start_ends_it_with_the_log(bench: Bench) -> None:
    """The error names the process, its exit code and its last lines; the others have been stopped."""
    good = bench.service("good", "exec sleep 60")
    bad = bench.service("bad", "echo no such database; exit 3", ready=lambda: False)
    supervisor = bench.supervisor([good], [bad])
    with pytest.raises(StartError, match=r"(?s)bad ended with exit code 3 .*bad\.log.*no such database"):
        supervisor.start()
    assert [process.pid for process in supervisor.processes] == [None, None]


def test_what_can_be_mended_is_started_again(bench: Bench) -> None:
    """A process that ended before it was ready gets another start once its fault was put right."""
    flag, ready = bench.folder / "right", bench.folder / "ready"

    def mend() -> str | None:
        if flag.exists():
            return None
        flag.touch()
        return "put right"

    script = f"test -e {flag} || exit 1; touch {ready}; exec sleep 60"
    supervisor = bench.supervisor([bench.service("one", script, ready=ready.exists, mend=mend)])
    supervisor.start()
    assert bench.said == ["put right"]
    supervisor.stop()


def test_what_a_person_has_to_mend_is_said_while_the_rest_goes_on(bench: Bench) -> None:
    """Later on, damage and a full disk end nothing but their own process, which starts when it can."""
    broken, full = bench.folder / "broken", bench.folder / "full"

    def before_start() -> None:
        if full.exists():
            raise FolderFullError("The disk is full.")

    def mend() -> str | None:
        raise DamagedFileError("It is damaged.")

    hooks = {"ready": lambda: not broken.exists(), "before_start": before_start, "mend": mend}
    supervisor = bench.supervisor(
        [bench.service("one", f"test ! -e {broken} || exit 1; exec sleep 60", **hooks)]
    )
    supervisor.start()
    full.touch()
    os.kill(supervisor.processes[0].pid or 0, signal.SIGKILL)
    bench.run_until(supervisor, lambda: any("(The disk is full.)" in line for line in bench.said))
    full.unlink()
    broken.touch()
    bench.signals.stops = 0
    bench.run_until(supervisor, lambda: "It is damaged." in bench.said)
    broken.unlink()
    bench.signals.stops = 0
    bench.run_until(supervisor, lambda: supervisor.ready)
    supervisor.stop()


def test_a_process_that_never_gets_ready_ends_the_start(bench: Bench) -> None:
    """The error names the process, the time it was given and its log."""
    slow = bench.service("slow", "exec sleep 60", ready=lambda: False, start_seconds=0.2)
    supervisor = bench.supervisor([slow])
    with pytest.raises(StartError, match=r"slow was not ready .*slow\.log, is empty"):
        supervisor.start()
    assert supervisor.processes[0].pid is None


def test_told_to_stop_while_starting(bench: Bench) -> None:
    """Ctrl-C during the start stops the started processes."""

    def interrupt() -> bool:
        signal.raise_signal(signal.SIGINT)
        return False

    supervisor = bench.supervisor([bench.service("one", "exec sleep 60", ready=interrupt)])
    with pytest.raises(InterruptedStartError):
        supervisor.start()
    assert supervisor.processes[0].pid is None


def test_what_dies_is_started_again(bench: Bench) -> None:
    """The death is told with its cause, and a new process takes over."""
    supervisor = bench.supervisor([bench.service("one", "exec sleep 60")])
    supervisor.start()
    first = supervisor.processes[0].pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    bench.run_until(supervisor, lambda: bool(supervisor.processes[0].restarts and supervisor.ready))
    assert supervisor.processes[0].pid != first
    assert "one ended by signal 9 (SIGKILL); restarting it" in bench.said[0]
    assert bench.said[1] == "one is ready again."
    supervisor.stop()


def test_what_is_silent_is_ended_and_started_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is replaced after several failed liveness probes, not after one."""
    monkeypatch.setattr(process_module, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(process_module, "SILENT_SECONDS", 0.3)
    answers = [True, False, True]
    looks: list[float] = []

    def alive() -> bool:
        looks.append(time.monotonic())
        return answers.pop(0) if answers else bool(supervisor.processes[0].restarts)

    supervisor = bench.supervisor([bench.service("one", "exec sleep 60", alive=alive)])
    supervisor.start()
    first = supervisor.processes[0].pid
    bench.run_until(supervisor, lambda: bool(supervisor.processes[0].restarts and supervisor.ready))
    assert supervisor.processes[0].pid != first
    assert "no heartbeat" in bench.said[0]
    assert "one ended by signal 9 (SIGKILL); restarting it" in bench.said[1]
    assert len(looks) > 4
    supervisor.stop()


def test_deaths_in_a_row_make_it_wait_longer(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """After five quick deaths it says so, and goes on trying at the longest pause."""
    monkeypatch.setattr(process_module, "_PAUSES", (0.0, 0.01, 0.02, 0.03, 0.04))
    fine = bench.folder / "fine"
    supervisor = bench.supervisor(
        [bench.service("one", f"test -e {fine} || exit 1; exec sleep 60", ready=fine.exists)]
    )
    fine.touch()
    supervisor.start()
    fine.unlink()
    process = supervisor.processes[0]
    process.signal(signal.SIGTERM)

    def recovered() -> bool:
        if process.quick_deaths > 6:
            fine.touch()
        return fine.exists() and process.ready

    bench.run_until(supervisor, recovered)
    assert any("5 times in a row. Restarting it every" in line for line in bench.said)
    supervisor.stop()


def test_stopping_goes_by_rank(bench: Bench) -> None:
    """A service of a higher rank lives until those of lower ranks have ended."""
    order = bench.folder / "order"
    # `wait` returns at the signal, so the trap runs at once.
    script = "trap 'echo {0} >> {1}; exit 0' TERM; touch {2}/{0}; sleep 60 & wait"
    names = {"base": 2, "middle": 1, "edge": 0}
    services = [
        bench.service(
            name, script.format(name, order, bench.folder), stop_rank=rank, ready=(bench.folder / name).exists
        )
        for name, rank in names.items()
    ]
    supervisor = bench.supervisor(services)
    supervisor.start()
    supervisor.stop()
    assert order.read_text().split() == ["edge", "middle", "base"]


def test_what_ignores_the_request_is_killed(bench: Bench) -> None:
    """A process gets its grace, not more."""
    ready = bench.folder / "ready"
    script = _STUBBORN.format(ready=ready)
    supervisor = bench.supervisor([bench.service("stubborn", script, ready=ready.exists, stop_seconds=0.2)])
    supervisor.start()
    supervisor.stop()
    assert supervisor.processes[0].pid is None


def test_a_second_request_kills_at_once(bench: Bench) -> None:
    """A second stop signal kills at once."""
    ready = bench.folder / "ready"
    script = _STUBBORN.format(ready=ready)
    supervisor = bench.supervisor([bench.service("stubborn", script, ready=ready.exists, stop_seconds=3600)])
    supervisor.start()
    bench.signals.stops = 2
    supervisor.stop()
    assert supervisor.processes[0].pid is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_children_of_a_dead_process_end_too(bench: Bench) -> None:
    """Children of a killed process do not outlive it."""
    note = bench.folder / "child"
    script = f"sleep 61 & echo $! > {note}.new; mv {note}.new {note}; wait"
    supervisor = bench.supervisor([bench.service("one", script, ready=note.exists)])
    supervisor.start()
    child = int(note.read_text())
    process = supervisor.processes[0]
    process.signal(signal.SIGKILL)
    wait_until(lambda: process.ended() is not None, "the process to end")
    wait_until(lambda: not _lives(child), "its child to end")
    supervisor.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_guard_ends_what_is_left_and_is_replaced_when_it_dies(bench: Bench) -> None:
    """A guard started for a dead one knows the processes, and ends them when the supervisor is gone."""
    guard = Guard()
    supervisor = Supervisor(
        [[bench.service("one", "exec sleep 60")]], guard, bench.signals, bench.said.append
    )
    supervisor.start()
    process = supervisor.processes[0]
    guard._popen.kill()
    guard._popen.wait()
    guard.check()
    assert guard._popen.stdin is not None
    guard._popen.stdin.close()  # As the end of the supervisor does.
    wait_until(lambda: process.ended() is not None, "the process to end")
    guard.close()
