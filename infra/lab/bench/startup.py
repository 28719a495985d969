"""Start-up time of a worker and of the API."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from core.settings import PREFIX
from infra.lab.bench.errors import BenchError
from infra.lab.stack import HOST
from infra.local.checkout import REPOSITORY
from infra.local.http_probes import api_ready
from infra.local.logs import tail
from infra.local.ports import free_ports

_NAME: Final = "bench-start"
_TIMEOUT: Final = 60.0


def worker_start(jobs: JobStore, environment: Mapping[str, str]) -> float:
    """Return the seconds until a new worker takes jobs."""
    name = f"{_NAME}@{socket.gethostname()}"
    return _time(
        [sys.executable, "-m", "worker", "--name", _NAME],
        environment,
        lambda: name in WorkerRegistry(jobs.client).names(),
    )


def api_start(environment: Mapping[str, str]) -> float:
    """Return the seconds until a new API reports that it is ready."""
    port = free_ports(1)
    listening = {f"{PREFIX}HOST": HOST, f"{PREFIX}PORT": str(port)}
    return _time([sys.executable, "-m", "api"], {**environment, **listening}, lambda: api_ready(HOST, port))


def _time(command: Sequence[str], environment: Mapping[str, str], is_ready: Callable[[], bool]) -> float:
    with tempfile.NamedTemporaryFile() as log:
        since = time.monotonic()
        with subprocess.Popen(  # noqa: S603 - our own command
            command, cwd=REPOSITORY, env={**os.environ, **environment}, stdout=log, stderr=log
        ) as process:
            try:
                while not is_ready():
                    if process.poll() is not None or time.monotonic() - since > _TIMEOUT:
                        lines = "\n  ".join(tail(Path(log.name)))
                        raise BenchError(
                            f"`{' '.join(command[1:])}` did not become ready. Its last lines:\n  {lines}"
                        )
                    time.sleep(0.005)
                return time.monotonic() - since
            finally:
                process.terminate()
