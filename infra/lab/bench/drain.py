"""One drain: uploads wait, then workers join and empty the queue. Nothing is uploaded while they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.lanes import SINGLE
from core.messages import QUEUES
from core.redis.feed import Feed
from core.redis.workers import WorkerRegistry
from core.settings import PREFIX, Settings
from infra.lab.bench.network import Network
from infra.lab.bench.programs import Programs
from infra.lab.bench.session import Session
from infra.lab.bench.stages import StageClock, Stages
from infra.lab.bench.usage import WORKER_CHILD, WORKER_PARENT, Snapshot, roles_of, snapshot
from infra.lab.bench.workload import Request

FIRST_BATCHES: Final = 2
"""Batches for each worker, as many as it takes at once, that are taken before the measured window."""

MIN_BATCHES: Final = 4
"""Batches for each worker that are taken in the measured window, at least."""

_QUEUE: Final = QUEUES[SINGLE]
_SECONDS: Final = 600.0  # of a whole drain on a very slow machine
_PAUSE: Final = 0.05  # seconds between two looks at the queue


@dataclass(frozen=True, slots=True)
class Drain:
    """The time in which every worker worked and the queue was not empty.

    `rate`: images/s. `cores`: cores used, by role. `idle`: cores that nothing used. `stages`: of the whole
    drain.
    """

    workers: int
    rate: float
    cores: dict[str, float]
    idle: float
    stages: Stages

    @property
    def worker_cores(self) -> float:
        """Cores that the workers used."""
        return self.cores[WORKER_PARENT] + self.cores[WORKER_CHILD]

    @property
    def cpu_ms(self) -> dict[str, float]:
        """CPU milliseconds an image by role."""
        return {role: 1000 * used / self.rate for role, used in self.cores.items()}


class Drainer:
    """Measures drains of one stack without workers of its own.

    Args:
        session: of the stack.
        network: places for the workers.
        settings: those of the workers.
        requests: uploads of one image each, sent in turn.
        seconds: length of the measured window.
    """

    def __init__(
        self,
        session: Session,
        network: Network,
        settings: Settings,
        requests: Sequence[Request],
        seconds: float,
    ) -> None:
        self._session = session
        self._network = network
        self._settings = settings
        self._requests = requests
        self._seconds = seconds

    def measure(self, workers: int, images: int) -> Drain | None:
        """Have `workers` workers classify at least `images` images; None if these were too few to measure.

        Raises:
            BenchError: a worker does not start, or ends.
            BrokenPipelineError: a process of the stack has ended, or the workers do not report.
        """
        jobs = self._session.jobs
        self._session.upload(self._requests, images)
        cursor, clock = Feed(jobs.client).end(), StageClock(jobs, 0)
        commands = [self._worker(number) for number in range(1, workers + 1)]
        with Programs(commands, self._environment()) as programs:
            registry = WorkerRegistry(jobs.client)
            programs.wait_until(lambda: len(registry.names()) >= workers, pause=_PAUSE)
            roles = roles_of(self._session.stack, programs.processes)
            full = workers * self._settings.max_batch
            self._wait_taken(programs, FIRST_BATCHES * full)
            begin = snapshot(roles)
            taken = self._wait_taken(programs, MIN_BATCHES * full, self._seconds)
            end = snapshot(roles)
            self._session.wait_settled()
            stages = clock.lap()
        settled = [job.cursor.ms / 1000 for job in Feed(jobs.client).read(cursor, sys.maxsize)]
        rate = _rate([at for at in settled if begin.at <= at < end.at])
        # A window that the end of the queue has cut short tells less, not something else.
        if rate is None or taken < MIN_BATCHES * full or end.at - begin.at < self._seconds / 2:
            return None
        return Drain(workers, rate, _cores(begin, end), _per_second(begin, end, begin.idle, end.idle), stages)

    def _worker(self, number: int) -> list[str]:
        command = [sys.executable, "-m", "worker", "--name", f"bench-{number}"]
        return self._network.place(number, command)

    def _environment(self) -> Mapping[str, str]:
        # Programs run in another folder.
        return self._session.stack.variables() | {
            f"{PREFIX}MODEL_DIR": str(self._settings.model_dir.absolute())
        }

    def _wait_taken(self, programs: Programs, images: int, seconds: float = 0.0) -> int:
        """Return when workers have taken images for some seconds, or the last one; return how many."""
        waiting, until = self._waiting(), time.monotonic() + seconds
        left = waiting

        def done() -> bool:
            nonlocal left
            left = self._waiting()
            return not left or (time.monotonic() >= until and waiting - left >= images)

        programs.wait_until(done, _SECONDS, _PAUSE)
        return waiting - left

    def _waiting(self) -> int:
        """Return the number of images that no worker has taken."""
        return int(self._session.jobs.client.llen(_QUEUE))


def _rate(times: Sequence[float]) -> float | None:
    """Return images/s from the first batch that settled, which does not count, to the last."""
    if not times or times[-1] == times[0]:
        return None
    return sum(at > times[0] for at in times) / (times[-1] - times[0])


def _cores(begin: Snapshot, end: Snapshot) -> dict[str, float]:
    return {role: _per_second(begin, end, begin.cpu[role], end.cpu[role]) for role in end.cpu}


def _per_second(begin: Snapshot, end: Snapshot, first: float, last: float) -> float:
    return (last - first) / (end.at - begin.at)
