"""Scaling: 1 to N workers with one Redis and one S3 server."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import psutil

from core.settings import load_settings
from infra.cli.options import count_workers
from infra.lab.bench import machine
from infra.lab.bench.drain import FIRST_BATCHES, MIN_BATCHES, Drain, Drainer
from infra.lab.bench.errors import BenchError
from infra.lab.bench.frames import FrameSet, make_frames
from infra.lab.bench.network import Network
from infra.lab.bench.plan import Plan
from infra.lab.bench.result import FORMAT
from infra.lab.bench.session import open_session
from infra.lab.bench.settings import used_settings
from infra.lab.bench.spread import Spread, spread
from infra.lab.bench.stages import Stages
from infra.lab.bench.workload import singles

_WORKER_BYTES: Final = 300e6
"""Memory of a worker, more than it takes."""

_JOIN_SECONDS: Final = 2.0
"""Seconds between the first worker's start of work and the last one's first heartbeat."""

_FIRST_GUESS: Final = 100.0  # images/s of one worker
_DOUBLINGS: Final = 6  # of a backlog that was too small, at most


@dataclass(frozen=True, slots=True)
class ScaleStep:
    """A number of workers.

    `efficiency`: images/s divided by this number of times the images/s of one worker.
    `efficiency_without_servers`: the same for each core that the workers used or left idle. Both are None
    where they would tell about the cores. `worker_cores` and `idle_cores`: cores that the workers used, and
    that nothing used. `cpu_ms`: CPU milliseconds an image by role. `stages`: of the last round.
    """

    workers: int
    images_per_second: Spread
    efficiency: Spread | None
    efficiency_without_servers: Spread | None
    worker_cores: Spread
    idle_cores: Spread
    cpu_ms: dict[str, Spread]
    stages: Stages


@dataclass(frozen=True, kw_only=True)
class ScaleResult:
    """All figures. `network` says where the workers were; `warnings` and `notes` are sentences."""

    made_at: str
    machine: dict[str, Any]
    settings: dict[str, Any]
    network: str
    steps: tuple[ScaleStep, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return the result as JSON's types."""
        return {"format": FORMAT, **asdict(self)}


class ScaleBenchmark:
    """Measures 1, 2, 4, ... and `workers` workers.

    Args:
        plan: sizes, durations and repetitions.
        images: folder or .tar of images to compose frames of; None for the shipped ones.
        workers: the highest number of workers.
        cores: number of this machine's cores to use.
        network: places for the workers.
        say: called with a line of progress.
    """

    def __init__(
        self,
        plan: Plan,
        images: Path | None,
        *,
        workers: int,
        cores: int,
        network: Network,
        say: Callable[[str], None],
    ) -> None:
        self._plan = plan
        self._images = images
        self._steps = sorted({1, workers, *(1 << power for power in range(workers.bit_length()))})
        self._cores = cores
        self._network = network
        self._say = say
        self._settings = load_settings()
        self._rate = _FIRST_GUESS

    @property
    def minutes(self) -> float:
        """Approximate duration: of each drain the upload, the start, the window and the end."""
        drain = 2 * (self._plan.seconds + _JOIN_SECONDS) + 6
        return self._plan.rounds * (10 + drain * len(self._steps)) / 60

    def run(self) -> ScaleResult:
        """Run every measurement; leave no process and no file behind.

        Raises:
            BenchError: there are no images, too little memory or disk space, or a worker does not start.
            StackError: the stack does not start.
            BrokenPipelineError: an image was rejected, lost, miscounted or not classified.
        """
        warnings = machine.warnings()
        settings = used_settings(self._settings, self._plan, self._images, self._steps[-1])
        _check_memory(self._steps[-1])
        self._say("Making frames")
        frames = make_frames([self._plan.main], self._plan.frames, self._images)[self._plan.main.name]
        rounds = []
        with tempfile.TemporaryDirectory(prefix="wastestream-bench-") as folder:
            for number in range(1, self._plan.rounds + 1):
                self._say(f"Workers {self._network.place_name} ({number} of {self._plan.rounds})")
                rounds.append(self._round(Path(folder), frames))
        drains = {workers: [drains[workers] for drains in rounds] for workers in self._steps}
        needs = {workers: _cores_needed(drains[1], series) for workers, series in drains.items()}
        return ScaleResult(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.describe(self._cores),
            settings=settings,
            network=self._network.place_name,
            steps=tuple(
                _step(drains[1], series, meets=needs[workers].met, fits=workers <= self._cores)
                for workers, series in drains.items()
            ),
            notes=tuple(self._notes(needs)),
            warnings=tuple(warnings),
        )

    def _round(self, folder: Path, frames: FrameSet) -> dict[int, Drain]:
        requests = singles(frames.frames)
        with open_session(folder / "scale", 0, self._plan, self._network.address) as session:
            drainer = Drainer(session, self._network, self._settings, requests, self._plan.seconds)

            def measure(workers: int) -> Drain:
                images = self._backlog(workers)
                for _ in range(_DOUBLINGS):
                    machine.check_space(folder, images * frames.mean_bytes)
                    self._say(f"{count_workers(workers)}, {images:,} images")
                    if drain := drainer.measure(workers, images):
                        return drain
                    images *= 2
                raise BenchError(
                    "The queue was empty before every worker had begun. Stop other programs, or give a "
                    "longer time with --seconds."
                )

            alone = measure(1)
            self._rate = alone.rate
            drains = {1: alone} | {workers: measure(workers) for workers in self._steps[1:]}
            session.check()
        return drains

    def _backlog(self, workers: int) -> int:
        """Return the number of images that last for the window."""
        rate = self._rate * min(workers, self._cores)
        full = workers * self._settings.max_batch
        window = max(rate * self._plan.seconds, MIN_BATCHES * full)
        return round(rate * _JOIN_SECONDS + FIRST_BATCHES * full + window) + full

    def _notes(self, needs: Mapping[int, _CoresNeeded]) -> list[str]:
        """Return a sentence for each reason to read figures otherwise."""
        notes = []
        if self._network.trouble:
            notes.append(
                f"Everything ran on loopback, without network namespaces ({self._network.trouble}). They "
                "need Linux, root or user namespaces, and the programs ip, unshare and nsenter."
            )
        for workers, need in needs.items():
            if workers > self._cores:
                notes.append(
                    f"{workers} workers are more than the {self._cores} cores, so they have no efficiency: "
                    "it would tell about the cores. Measure on a machine with more cores, or on several."
                )
            elif not need.met:
                notes.append(
                    f"{workers} workers would have used {need.wanted:.2f} cores and were left "
                    f"{need.left:.2f}, so images/s alone would tell about the cores: read the efficiency "
                    "without servers."
                )
        return notes


@dataclass(frozen=True, slots=True)
class _CoresNeeded:
    """Cores that workers would use if each used as many as one alone, and those left to them."""

    wanted: float
    left: float

    @property
    def met(self) -> bool:
        return self.wanted <= self.left


def _cores_needed(alone: Sequence[Drain], drains: Sequence[Drain]) -> _CoresNeeded:
    wanted = spread(drain.worker_cores for drain in alone).median * drains[0].workers
    left = spread(drain.worker_cores + drain.idle for drain in drains).median
    return _CoresNeeded(wanted, left)


def _step(alone: Sequence[Drain], drains: Sequence[Drain], *, meets: bool, fits: bool) -> ScaleStep:
    pairs = list(zip(alone, drains, strict=True))
    return ScaleStep(
        workers=drains[0].workers,
        images_per_second=spread(drain.rate for drain in drains),
        efficiency=spread(drain.rate / drain.workers / one.rate for one, drain in pairs) if meets else None,
        efficiency_without_servers=spread(without_servers(one, drain) for one, drain in pairs)
        if fits
        else None,
        worker_cores=spread(drain.worker_cores for drain in drains),
        idle_cores=spread(drain.idle for drain in drains),
        cpu_ms={role: spread(drain.cpu_ms[role] for drain in drains) for role in drains[0].cpu_ms},
        stages=drains[-1].stages,
    )


def without_servers(alone: Drain, drain: Drain) -> float:
    """Return the efficiency with the cores counted out that servers, and other programs, took.

    It compares images/s for each core that was there for the workers: those that they used, and idle ones
    as long as each worker has not as many as one alone used. So it is less than 1 if an image costs more CPU
    time, and if workers wait although a core is idle.
    """
    unused = max(0.0, drain.workers * alone.worker_cores - drain.worker_cores)
    cores = drain.worker_cores + min(drain.idle, unused)
    return (drain.rate / cores) / (alone.rate / alone.worker_cores)


def _check_memory(workers: int) -> None:
    needed, free = workers * _WORKER_BYTES, psutil.virtual_memory().available
    if free < needed:
        raise BenchError(
            f"The workers may take {needed / 1e9:.1f} GB of memory, and {free / 1e9:.1f} GB are "
            "free. Choose a smaller number with --scale."
        )
