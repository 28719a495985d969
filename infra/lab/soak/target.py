"""The stack under test: started and stopped as a user does, with a handle on each of its processes."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import psutil
from redis import Redis

from api.auth.key_cache import FRESH
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.ledger import Ledger
from core.settings import PREFIX
from infra.local.checkout import REPOSITORY
from infra.local.errors import StackError
from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.logs import tail
from infra.local.status import read_status

_START_SECONDS: Final = 180.0
_STOP_SECONDS: Final = 90.0


class Target:
    """One stack in a folder of its own, on ports of its own.

    Args:
        folder: where its data go.
        workers: worker processes.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = DataFolder(folder)
        self.port = _three_free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder.with_name("up.log")
        self._workers = workers
        self.key = ""
        """API key of the load, once the stack is ready."""
        self.other_key = ""
        """API key of somebody else who may send."""
        self._popen: subprocess.Popen[bytes] | None = None
        self._guard = Guard()  # Ends the stack if this process is killed.

    def start(self) -> None:
        """Start it; return when it is ready.

        Raises:
            StackError: it did not start; what it printed is in the message.
        """
        # Two API processes, so that one of them can be killed.
        environment = {**os.environ, f"{PREFIX}API_PROCESSES": "2"}
        command = [sys.executable, "-m", "infra.cli", "up", "--data-dir", str(self.folder.path)]
        command += ["--port", str(self.port), "--workers", str(self._workers)]
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own command
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        self._guard.watch(self._popen.pid)
        deadline = time.monotonic() + _START_SECONDS
        while not self.is_ready():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                words = "\n  ".join(tail(self._log, start=0))
                raise StackError(f"The stack to be tested did not start. It said:\n  {words}")
            time.sleep(0.1)
        keys = KeyStore(self.redis)
        self.key = keys.create("load", [Scope.INGEST, Scope.READ])[1]
        self.other_key = keys.create("other", [Scope.INGEST])[1]
        time.sleep(FRESH)  # Until then an API process may not have seen that there are keys.

    def stop(self) -> None:
        """Stop it."""
        if self._popen is not None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(_STOP_SECONDS)
        self._guard.close()  # It ends what is left.

    @property
    def redis(self) -> Redis:
        """A new client of its Redis."""
        return connect(self._variable("REDIS_URL"), timeout=10)

    def ledger(self) -> Ledger:
        """Return the stack's own ledger."""
        return Ledger(self.redis)

    @property
    def supervisor(self) -> int:
        """Process id of the supervisor."""
        return self.folder.supervisor() or 0

    def pid(self, name: str) -> int | None:
        """Return the process id of a service; None while it does not run."""
        return next((one.pid for one in read_status(self.folder).processes if one.name == name), None)

    def workers(self) -> list[str]:
        """Return the names of the worker services."""
        return [f"worker-{number}" for number in range(1, self._workers + 1)]

    def children(self, name: str) -> list[int]:
        """Return the process ids of what a service has started."""
        pid = self.pid(name)
        try:
            return [child.pid for child in psutil.Process(pid).children()] if pid else []
        except psutil.NoSuchProcess:
            return []

    def memory(self) -> dict[str, int]:
        """Return the resident bytes of each service, with what it has started."""
        found: dict[str, int] = {}
        for one in read_status(self.folder).processes:
            if one.pid is None:  # It does not run. psutil takes None for this very process.
                continue
            with contextlib.suppress(psutil.NoSuchProcess):  # It has just been killed.
                process = psutil.Process(one.pid)
                family = [process, *process.children(recursive=True)]
                found[one.name] = sum(each.memory_info().rss for each in family)
        return found

    def is_ready(self) -> bool:
        """Return whether every process is ready."""
        return read_status(self.folder).ready

    def wait_replaced(self, name: str, before: int | None, seconds: float = 60.0) -> None:
        """Return when another process than `before` runs the service and all is ready, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while (self.pid(name) in {before, None} or not self.is_ready()) and time.monotonic() < deadline:
            time.sleep(0.2)

    def wait_ready(self, seconds: float) -> None:
        """Return when every process is ready, or after `seconds`."""
        deadline = time.monotonic() + seconds
        while not self.is_ready() and time.monotonic() < deadline:
            time.sleep(0.2)

    def _variable(self, name: str) -> str:
        lines = self.folder.worker_env.read_text(encoding="utf-8").splitlines()
        return dict(line.split("=", 1) for line in lines)[PREFIX + name]


def _three_free_ports() -> int:
    """Return a port that is free together with the next two, below those of outgoing connections."""
    first = 20_000 + (os.getpid() * 3 + time.time_ns() // 1000) % 9_000
    for port in range(first, 32_000, 3):
        try:
            for each in range(port, port + 3):
                socket.create_server(("127.0.0.1", each)).close()
        except OSError:
            continue
        return port
    raise StackError("There are no three free ports in a row between 20000 and 32000.")
