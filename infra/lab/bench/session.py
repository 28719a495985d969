"""A stack under measurement."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from core.redis.job_store import JobStore
from core.settings import PREFIX
from infra.lab.bench.closed_loop import SINGLE_CLIENTS, UploadBacklog
from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.http import Address
from infra.lab.bench.measure import Window, measure
from infra.lab.bench.plan import Plan
from infra.lab.bench.stages import StageClock, Stages
from infra.lab.bench.usage import roles_of, snapshot
from infra.lab.bench.workload import Request, Workload
from infra.lab.stack import HOST, Stack, wait_for
from wastestream import Client

_SETTLE_SECONDS: Final = 120.0  # a slow machine is not a broken pipeline
_MAX_QUEUED: Final = 10_000_000


@dataclass(frozen=True)
class Round:
    """One workload, run once: the window seen from outside, and the workers' own stages."""

    window: Window
    stages: Stages


class Session:
    """Runs workloads on a stack and counts the accepted images."""

    def __init__(self, stack: Stack, plan: Plan) -> None:
        self.stack = stack
        self.address = Address(HOST, stack.port)
        self.jobs = JobStore(stack.redis(), max_queued=_MAX_QUEUED)
        self._plan = plan
        self._images = 0

    def run(self, workload: Workload, seconds: float | None = None) -> Round:
        """Run a workload on a stack with workers."""
        clock = StageClock(self.jobs, len(self.stack.workers))
        window = self.window(workload, seconds)
        return Round(window, clock.lap())

    def window(self, workload: Workload, seconds: float | None = None) -> Window:
        """Run a workload; return its window."""
        roles = roles_of(self.stack)
        window = measure(workload, lambda: snapshot(roles), self._plan.warm_up, seconds or self._plan.seconds)
        self._images += window.accepted
        return window

    def upload(self, requests: Sequence[Request], images: int) -> None:
        """Upload at least `images` images, which wait while no worker runs."""
        workload = UploadBacklog(self.address, requests, SINGLE_CLIENTS, images)
        asyncio.run(workload.run())
        self._images += workload.accepted

    def wait_settled(self) -> None:
        """Return when no image is pending, or after two minutes."""
        wait_for(lambda: not self.jobs.pending(), _SETTLE_SECONDS)

    def check(self) -> None:
        """Return when the ledger says that every accepted image was classified once.

        Raises:
            BrokenPipelineError: it says something else.
        """
        self.wait_settled()
        with Client(self.stack.url) as client:
            ledger = client.ledger()
        counts = asdict(ledger.system) if ledger.system else {}
        if ledger.balanced and {counts["received"], counts["classified"]} == {self._images}:
            return
        totals = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        raise BrokenPipelineError(
            f"The ledger does not balance: {self._images:,} images were answered with 202, and it says "
            f"{totals}. {self.stack.last_lines()}"
        )


@contextmanager
def open_session(folder: Path, workers: int, plan: Plan, listen: str = HOST) -> Iterator[Session]:
    """Start a stack with settings under which it rejects no upload; yield its session.

    Redis and the S3 server listen on the address `listen`.

    Raises:
        StackError: the stack does not start.
    """
    unlimited = {f"{PREFIX}MAX_QUEUED": str(_MAX_QUEUED), f"{PREFIX}AUTH": "off", f"{PREFIX}KEY_RATE": "0"}
    with Stack(folder, workers, listen, **unlimited) as stack:
        yield Session(stack, plan)
