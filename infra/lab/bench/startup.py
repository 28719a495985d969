"""Start-up time of a worker and of the API."""

from __future__ import annotations

import socket
import sys
from collections.abc import Mapping
from typing import Final

from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from core.settings import PREFIX
from infra.lab.bench.programs import Programs
from infra.lab.stack import HOST
from infra.local.http_probes import api_ready
from infra.local.ports import free_ports

_NAME: Final = "bench-start"


def worker_start(jobs: JobStore, environment: Mapping[str, str]) -> float:
    """Return the seconds until a new worker takes jobs."""
    name = f"{_NAME}@{socket.gethostname()}"
    with Programs([[sys.executable, "-m", "worker", "--name", _NAME]], environment) as worker:
        return worker.wait_until(lambda: name in WorkerRegistry(jobs.client).names())


def api_start(environment: Mapping[str, str]) -> float:
    """Return the seconds until a new API reports that it is ready."""
    port = free_ports(1)
    listening = {f"{PREFIX}HOST": HOST, f"{PREFIX}PORT": str(port)}
    with Programs([[sys.executable, "-m", "api"]], {**environment, **listening}) as api:
        return api.wait_until(lambda: api_ready(HOST, port))
