"""A throw-away stack for benchmarks, soaks and tests: `up` in a folder and on ports of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
from redis import Redis

from api.auth.key_cache import MISS_REFRESH_SECONDS, REFRESH_SECONDS
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.settings import PREFIX
from infra.local.checkout import REPOSITORY
from infra.local.environment import read_variables
from infra.local.errors import StackError
from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.logs import tail
from infra.local.ports import free_ports
from infra.local.state import ProcessState, read_state
from infra.local.status import read_status

HOST: Final = "127.0.0.1"

SUPERVISOR: Final = "supervisor"
"""Name of the supervisor beside its services."""

_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 90.0


class Stack:
    """Redis, an S3 server, the API and workers; a context manager that starts, stops and removes them.

    Args:
        folder: the data folder to create. The output of `up` goes to FOLDER.log beside it.
        workers: worker processes; with 0 accepted jobs stay queued.
        listen: address of Redis and the S3 server.
        environment: variables beside those of this process.
    """

    def __init__(self, folder: Path, workers: int = 1, listen: str = HOST, **environment: str) -> None:
        self.folder = DataFolder(folder)
        self.workers = [f"worker-{number}" for number in range(1, workers + 1)]
        """Names of the worker services."""
        self.listen = listen
        self.port = free_ports(3)
        self.url = f"http://{HOST}:{self.port}"
        self.environment = environment
        self.log = folder.with_name(f"{folder.name}.log")
        self._guard: Guard | None = None
        self._up: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self.stop()

    def command(self, name: str, *arguments: str) -> list[str]:
        """Return the command line of `./wastestream NAME` for this folder."""
        return [sys.executable, "-m", "infra.cli", name, "--data-dir", str(self.folder.path), *arguments]

    def start(self) -> None:
        """Start the stack and wait until it is ready.

        Raises:
            StackError: it is not ready in time; the message ends with the last lines of its logs.
        """
        options = ["--port", str(self.port), "--workers", str(len(self.workers)), "--listen", self.listen]
        with self.log.open("wb") as log:
            up = self._up = subprocess.Popen(  # noqa: S603 - our own command
                self.command("up", *options),
                cwd=REPOSITORY,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C belongs to the caller.
            )
        self._guard = Guard()  # Ends the stack if this process is killed.
        self._guard.watch(up.pid)
        wait_for(lambda: up.poll() is not None or self.is_ready(), _START_SECONDS)
        if not self.is_ready():
            raise StackError(f"The stack did not start. {self.last_lines()}")

    def stop(self) -> None:
        """End every process and remove the folder. A second Ctrl-C waits until that is done."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._end()
            shutil.rmtree(self.folder.path, ignore_errors=True)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def restart(self) -> None:
        """End every process, and start the stack again on the same data.

        Raises:
            StackError: it is not ready in time.
        """
        self._end()
        self.start()

    def _end(self) -> None:
        if self._up is not None:
            self._up.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._up.wait(_STOP_SECONDS)
            self._up.kill()  # Its own guard ends the services.
            self._up.wait()
        if self._guard is not None:
            self._guard.close()

    def is_ready(self) -> bool:
        """Return whether every process is ready."""
        return read_status(self.folder).ready

    def wait_ready(self, seconds: float) -> None:
        """Return when every process is ready, or after `seconds`."""
        wait_for(self.is_ready, seconds)

    def wait_replaced(self, name: str, pid: int | None, seconds: float = 60.0) -> None:
        """Return when another process than `pid` runs the service and all is ready, or after `seconds`."""
        wait_for(lambda: self.pid(name) not in {pid, None} and self.is_ready(), seconds)

    def processes(self) -> tuple[ProcessState, ...]:
        """Return the services' processes as the supervisor last saw them."""
        state = read_state(self.folder)
        return state.processes if state else ()

    def pid(self, name: str) -> int | None:
        """Return the process id of a service or of the supervisor; None while it does not run."""
        if name == SUPERVISOR:
            return self.folder.supervisor() or None
        return next((process.pid for process in self.processes() if process.name == name), None)

    def signal(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to a service or the supervisor; return its process id, None if it does not run."""
        pid = self.pid(name)
        if pid:
            send_signal(pid, number)
        return pid

    def children(self, name: str) -> list[psutil.Process]:
        """Return the processes that a service has started."""
        pid = self.pid(name)
        try:
            return psutil.Process(pid).children() if pid else []
        except psutil.NoSuchProcess:
            return []

    def variables(self) -> dict[str, str]:
        """Return the variables that a worker of this stack needs."""
        return read_variables(self.folder.worker_env)

    def redis(self) -> Redis:
        """Return a new client of the stack's Redis."""
        return connect(self.variables()[f"{PREFIX}REDIS_URL"], timeout=10)

    def make_key(self, name: str, *scopes: str) -> str:
        """Create an API key; return it when every API process accepts it."""
        store = KeyStore(self.redis())
        is_first = not store.all()
        key = store.create(name, map(Scope, scopes))[1]
        # Before its first key an API process accepts calls without one until it reads the keys again.
        time.sleep(REFRESH_SECONDS if is_first else MISS_REFRESH_SECONDS)
        return key

    def last_lines(self) -> str:
        """Return the last lines of every log, for an error message."""
        logs = [self.log, *sorted(self.folder.logs.glob("*.log"))]
        lines = [f"  {log.stem}: {line}" for log in logs for line in tail(log)[-3:]]
        return "\n".join(["The last lines of the logs:", *lines])


def send_signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may just have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def wait_for(condition: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Ask every `pause` seconds; return whether the condition holds before `seconds` are over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True
