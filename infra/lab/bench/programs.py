"""Programs that the benchmark starts beside those of the stack."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

from infra.lab.bench.errors import BenchError
from infra.local.checkout import REPOSITORY
from infra.local.guard import Guard
from infra.local.logs import tail

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0  # the batch in progress of a worker


class Programs:
    """Programs that start and end together: a context manager. They end too if this process is killed."""

    def __init__(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> None:
        self.processes: list[psutil.Process] = []
        self._commands = commands
        self._environment = {**os.environ, **environment}
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed at the exit
        self._guard = Guard()
        self._popens: list[subprocess.Popen[bytes]] = []
        self._since = time.monotonic()

    def __enter__(self) -> Self:
        try:
            for command in self._commands:
                self._start(command)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._end()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def wait_until(
        self, condition: Callable[[], bool], seconds: float = _START_SECONDS, pause: float = 0.005
    ) -> float:
        """Return the seconds from the start until the condition holds, which is asked every `pause` seconds.

        Raises:
            BenchError: a program has ended, or time is over; the message ends with the last lines of output.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            for command, popen in zip(self._commands, self._popens, strict=True):
                if popen.poll() is not None:
                    raise self._error(command, f"ended with {popen.returncode}")
            if time.monotonic() > deadline:
                raise self._error(self._commands[0], f"was not done after {seconds:.0f} s")
            time.sleep(pause)
        return time.monotonic() - self._since

    def _error(self, command: Sequence[str], what: str) -> BenchError:
        name = " ".join(command[command.index("-m") :] if "-m" in command else command)
        lines = "\n  ".join(tail(Path(self._log.name))) or "(none)"
        return BenchError(f"`{name}` {what}. Its last lines:\n  {lines}")

    def _start(self, command: Sequence[str]) -> None:
        popen = subprocess.Popen(  # noqa: S603 - our own command
            command,
            cwd=REPOSITORY,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C belongs to the command.
        )
        self._guard.watch(popen.pid)
        self._popens.append(popen)
        self.processes.append(psutil.Process(popen.pid))

    def _end(self) -> None:
        for popen in self._popens:
            popen.terminate()
        for popen in self._popens:
            try:
                popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(popen.pid, signal.SIGKILL)
                popen.wait()
        self._guard.close()
        self._log.close()
