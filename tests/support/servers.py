"""Real servers and worker processes for tests, on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Final

from redis import Redis, RedisError

from infra.lab.stack import HOST, wait_for
from infra.local.checkout import REPOSITORY
from infra.local.errors import StackError
from infra.local.http_probes import listens
from infra.local.ports import free_ports
from infra.local.programs import find_program

__all__ = [
    "REPOSITORY",
    "RedisServer",
    "Server",
    "free_port",
    "program",
    "run_module",
    "small_api",
    "wait_until",
]


def program(*names: str) -> str:
    """Return the path of Redis or rclone, as the stack finds it."""
    try:
        return find_program(*names)
    except StackError as error:
        raise FileNotFoundError(f"{names[0]} is missing; run the tests by ./wastestream test") from error


def free_port() -> int:
    """Return a free port of the loopback interface, outside the ports of outgoing connections."""
    return free_ports(1)


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Return as soon as `condition()` holds; fail after `seconds` with `what` in the message."""
    if not wait_for(condition, seconds, pause=0.02):
        raise AssertionError(f"waited {seconds:.0f} s in vain for: {what}")


_PATH: Final = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "client")])


def run_module(
    module: str,
    *arguments: object,
    environment: Mapping[str, str] = MappingProxyType({}),
    cwd: Path = REPOSITORY,
    seconds: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run `python -m module` of this checkout to its end, with further variables."""
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": _PATH, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )


@dataclass
class Server:
    """A program that tests kill and restart."""

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
        return listens(HOST, self.port)

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal and wait up to 30 seconds for the end; return the exit status."""
        if self.process is None:
            raise RuntimeError("not started")
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def stop(self) -> None:
        """Kill the program and its children."""
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


class RedisServer(Server):
    """Redis, which listens before it has loaded its data."""

    def _listens(self) -> bool:
        if not super()._listens():
            return False
        with Redis(port=self.port or 0) as client, contextlib.suppress(RedisError):
            return bool(client.ping())
        return False


@contextlib.contextmanager
def small_api(environment: dict[str, str], folder: Path, *, places: int, waiting: int) -> Iterator[int]:
    """Run the API in one process with few threads; give its port.

    Args:
        environment: the settings.
        folder: for its log.
        places: threads for uploads.
        waiting: additional threads for waiting requests.
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
