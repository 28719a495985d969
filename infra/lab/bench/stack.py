"""The stack that is measured: started as `wastestream up` does, in a folder that is thrown away."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil
import redis

from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.keys import INSTALLATION
from core.redis.ledger import TOTALS, Ledger
from core.settings import PREFIX
from infra.lab.bench.errors import BenchError, BrokenPipelineError
from infra.local.checkout import REPOSITORY
from infra.local.folder import DataFolder
from infra.local.guard import Guard
from infra.local.health import api_ready
from infra.local.logs import tail
from infra.local.state import read_state
from worker.periodic import retention

HOST: Final = "127.0.0.1"

_PORTS: Final = range(20_000, 32_000, 3)  # below those that outgoing connections get
_START_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 90.0
_SETTLE_SECONDS: Final = 120.0  # a slow machine is no broken pipeline
_ALL: Final = ("received", "classified")  # what every image sent must be

_MAX_QUEUED: Final = 10_000_000

_UNBOUNDED: Final[Mapping[str, str]] = {
    f"{PREFIX}MAX_QUEUED": str(_MAX_QUEUED),
    f"{PREFIX}AUTH": "off",
    f"{PREFIX}KEY_RATE": "0",
}
"""Settings that would refuse the load, whatever the person's own stack is set to."""


class Stack:
    """Redis, an S3 server, the API and workers on free ports; a context manager.

    Args:
        folder: the data folder to make; it is removed afterwards.
        workers: how many; with 0 jobs are accepted and wait.

    Raises:
        BenchError: the stack does not start; the message has the last lines of its log.
    """

    def __init__(self, folder: Path, workers: int) -> None:
        self.workers = workers
        self.folder = DataFolder(folder)
        self.port = _free_ports()
        self._log = folder.with_name(f"{folder.name}.log")
        self._popen: subprocess.Popen[bytes] | None = None
        self._guard = Guard()  # Ends the stack if this process is killed.

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        self.environment = _read(self.folder.worker_env)
        self.redis_url = self.environment[f"{PREFIX}REDIS_URL"]
        self.jobs = JobStore(connect(self.redis_url), max_queued=_MAX_QUEUED)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._stop()

    def roles(self) -> dict[str, list[psutil.Process]]:
        """Return the stack's processes by what they are for.

        Raises:
            BrokenPipelineError: one of them has ended since the start.
        """
        state = read_state(self.folder)
        if (
            state is None
            or self._popen is None
            or any(one.restarts or not one.pid for one in state.processes)
        ):
            raise BrokenPipelineError(f"A process of the stack has ended. {self._last_words()}")
        roles: dict[str, list[psutil.Process]] = {"supervisor": [psutil.Process(self._popen.pid)]}
        for one in state.processes:
            process = psutil.Process(one.pid)
            if one.name.startswith("worker"):
                roles.setdefault("worker parent", []).append(process)
                roles.setdefault("worker child", []).extend(filter(_classifies, process.children()))
            elif one.name == "api":
                roles[one.name] = [process, *process.children()]
            else:  # A child of Redis rewrites its file and ends.
                roles[one.name] = [process]
        return roles

    def check_books(self, images: int) -> None:
        """Return when `images` were accepted in all and each is counted as classified, once.

        Raises:
            BrokenPipelineError: the ledger says something else.
        """
        deadline = time.monotonic() + _SETTLE_SECONDS
        while self.jobs.pending() and time.monotonic() < deadline:
            time.sleep(0.05)
        books = Ledger(self.jobs.client).balance()
        if not books.balanced or books.waiting or {books.counts[name] for name in _ALL} != {images}:
            said = ", ".join(f"{books.counts[name]:,} {name}" for name in TOTALS)
            raise BrokenPipelineError(
                f"The ledger does not balance: {images:,} images were answered with 202, and it says {said}, "
                f"{books.waiting:,} pending. {self._last_words()}"
            )

    def _start(self) -> None:
        command = [sys.executable, "-m", "infra.cli", "up", "--data-dir", str(self.folder.path)]
        command += ["--port", str(self.port), "--workers", str(self.workers)]
        with self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # noqa: S603 - our own command
                command,
                cwd=REPOSITORY,
                env={**os.environ, **_UNBOUNDED},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is this command's to handle.
            )
        self._guard.watch(self._popen.pid)
        deadline = time.monotonic() + _START_SECONDS
        while not self._is_ready():
            if self._popen.poll() is not None or time.monotonic() > deadline:
                raise BenchError(f"The stack did not start. {self._last_words()}")
            time.sleep(0.05)

    def _is_ready(self) -> bool:
        state = read_state(self.folder)
        return state is not None and all(one.ready for one in state.processes) and api_ready(HOST, self.port)

    def _stop(self) -> None:
        with _undisturbed():
            self._end()

    def _end(self) -> None:
        if self._popen is not None:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._popen.kill()  # Its guard ends the others.
                self._popen.wait()
            self._guard.forget(self._popen.pid)
        self._guard.close()
        shutil.rmtree(self.folder.path, ignore_errors=True)

    def _last_words(self) -> str:
        logs = [self._log, *sorted(self.folder.logs.glob("*.log"))]
        words = [f"{log.stem}: {line}" for log in logs for line in tail(log, start=0)[-3:]]
        return "\n".join(["The last lines of the logs:", *(f"  {line}" for line in words)])


def empty(client: redis.Redis) -> None:
    """Empty Redis but for the installation's mark, without which the API would be closed."""
    mark = str(client.get(INSTALLATION))
    with client.pipeline() as pipe:
        pipe.flushall()
        pipe.set(INSTALLATION, mark)
        pipe.execute()


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let a second Ctrl-C wait until the stack has stopped."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _classifies(child: psutil.Process) -> bool:
    """Say whether a worker's child is the one that lasts: a retention sweep comes and goes."""
    try:
        command = child.cmdline()
    except psutil.NoSuchProcess:
        return False
    return bool(command) and retention.__name__ not in command  # An ended one has no command line.


def _read(worker_env: Path) -> dict[str, str]:
    lines = worker_env.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _free_ports() -> int:
    """Return a port that is free together with the next two."""
    begin = os.getpid() * 30 % (_PORTS.stop - _PORTS.start) // 3
    for number in range(len(_PORTS)):
        port = _PORTS[(begin + number) % len(_PORTS)]
        if all(_is_free(each) for each in range(port, port + 3)):
            return port
    raise BenchError(f"There are no three free ports in a row between {_PORTS.start} and {_PORTS.stop}.")


def _is_free(port: int) -> bool:
    try:
        socket.create_server((HOST, port)).close()
    except OSError:
        return False
    return True
