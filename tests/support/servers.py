"""Real servers and worker processes for tests, on loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.local.errors import StackError
from infra.local.programs import find_program

REPOSITORY = Path(__file__).resolve().parents[2]


def program(*names: str) -> str:
    """Return the path of Redis or rclone, as the stack finds it."""
    try:
        return find_program(*names)
    except StackError as error:
        raise FileNotFoundError(f"{names[0]} is missing; run the tests by ./wastestream test") from error


_PORTS: Final = (
    10_000,
    32_000,
)  # below those that outgoing connections get, which would take a killed server's


def free_port() -> int:
    """Return a port of the loopback interface that nothing listens on, nor any outgoing connection takes."""
    return _free_ports(1)


def three_free_ports() -> int:
    """Return a port that is free together with the next two."""
    return _free_ports(3)


def _free_ports(count: int) -> int:
    # At random: other processes run tests at the same time, and ports are used only later.
    for _ in range(1000):
        first = secrets.randbelow(_PORTS[1] - count - _PORTS[0]) + _PORTS[0]
        try:
            for each in range(first, first + count):
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return first
    raise RuntimeError(f"no {count} free ports in a row")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Return as soon as `condition()` holds; fail with `what` was awaited after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")
        time.sleep(0.02)


def listens(port: int) -> bool:
    """Return whether something accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Server:
    """A program that can be killed and started again."""

    command: list[str]
    log: Path
    environment: dict[str, str] = field(default_factory=dict)
    port: int | None = None
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; if it has a port, return when it listens."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.environment},
                cwd=REPOSITORY,
                start_new_session=True,
            )
        if self.port is not None:
            wait_until(self._listens, f"{self.command[0]} to listen", 20)

    def _listens(self) -> bool:
        assert self.process is not None
        assert self.port is not None
        status = self.process.poll()
        assert status is None, f"{self.command[0]} ended with {status}; its log is {self.log}"
        return listens(self.port)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait for the end, which may take 30 seconds; return the exit status."""
        if self.process is None:
            raise RuntimeError("not started")
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def stop(self) -> None:
        """End the program and all that it started, whatever state they are in."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):  # It has ended already.
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=10)

    def children(self) -> list[int]:
        """Return the process ids of the program's direct children."""
        if self.process is None:
            return []
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


@contextlib.contextmanager
def small_api(environment: dict[str, str], folder: Path, *, places: int, waiting: int) -> Iterator[int]:
    """Run the API in one process with few threads; give its port.

    Args:
        environment: the settings.
        folder: for its log.
        places: threads for uploads.
        waiting: threads besides, for requests that wait.
    """
    port = free_port()
    variables = environment | {
        "WASTESTREAM_PORT": str(port),
        "WASTESTREAM_API_PROCESSES": "1",
        "WASTESTREAM_API_THREADS": str(places),
        "WASTESTREAM_API_WAITING": str(waiting),
    }
    api = Server([sys.executable, "-m", "api"], folder / "log", environment=variables, port=port)
    api.start()
    try:
        yield port
    finally:
        api.stop()
