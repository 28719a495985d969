"""One benchmark: every measurement in turn."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from core.messages import Envelope, make_app
from core.settings import PREFIX, Settings, load_settings
from infra.lab.bench import machine
from infra.lab.bench.aggregation import baseline_result, describe_frames, ingest_result, throughput
from infra.lab.bench.backlog import Backlog, empty, measure_backlog
from infra.lab.bench.baseline import Baseline, Pace
from infra.lab.bench.closed_loop import (
    BULK_CLIENTS,
    SINGLE_CLIENTS,
    WAITING_CLIENTS,
    Sequential,
    UploadAndQuery,
    UploadAndWait,
    UploadOnly,
)
from infra.lab.bench.frames import FrameSet, make_frames
from infra.lab.bench.measure import Window
from infra.lab.bench.open_loop import PoissonArrivals
from infra.lab.bench.plan import Plan
from infra.lab.bench.result import (
    BenchmarkResult,
    IngestResult,
    LatencyResult,
    ProcessResult,
    ScalingResult,
    SizeResult,
)
from infra.lab.bench.session import Round, Session, open_session
from infra.lab.bench.settings import used_settings, weights_of
from infra.lab.bench.sizing import size_fleet
from infra.lab.bench.spread import latency, percentile, spread
from infra.lab.bench.stages import Stages
from infra.lab.bench.startup import api_start, worker_start
from infra.lab.bench.usage import WORKER_CHILD, WORKER_PARENT, Memory, memory, roles_of
from infra.lab.bench.workload import Workload, bulks, singles
from infra.lab.stack import Stack

SINGLE: Final = "single"
BULK: Final = "bulk"
AWAITED: Final = "awaited"
IDLE: Final = "idle"

_MAX_RATE: Final = 250.0  # images/s a core, to estimate the stored bytes


class Benchmark:
    """Runs the measurements of a plan.

    Args:
        plan: sizes, durations and repetitions.
        images: folder or .tar of images to compose frames of; None for the shipped ones.
        cores: number of this machine's cores to use; also the number of workers.
        say: called with a line of progress.
    """

    def __init__(self, plan: Plan, images: Path | None, cores: int, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._images = images
        self._cores = cores
        self._say = say
        self._settings = load_settings()

    def run(self) -> BenchmarkResult:
        """Run every measurement; leave no process and no file behind.

        Raises:
            BenchError: there are no images or too little disk space.
            StackError: a stack does not start.
            BrokenPipelineError: an image was rejected, lost, miscounted or not classified.
        """
        warnings = machine.warnings()
        settings = used_settings(self._settings, self._plan, self._images, self._cores)
        self._say("Making frames")
        sets = make_frames(self._plan.sizes, self._plan.frames, self._images)
        main = sets[self._plan.main.name]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wastestream-bench-")))
            machine.check_space(folder, self._stored(sets))
            measured = self._measure_sizes(folder, sets)
            scale = self._measure_scale(folder, main, measured.sizes[main.size.name])
            accepting, backlog, starts = self._measure_without_workers(folder, main)
        single = measured.sizes[main.size.name].workloads[SINGLE]
        return BenchmarkResult(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.describe(self._cores),
            settings=settings,
            sizes=measured.sizes,
            latency=measured.latency,
            accepting=accepting,
            backlog=backlog,
            scale=scale,
            processes={
                name: ProcessResult(spread(starts[name]), parts) for name, parts in measured.memory.items()
            },
            sizing=size_fleet({role: cpu_ms.median for role, cpu_ms in single.cpu_ms.items()}),
            warnings=tuple(warnings),
        )

    def _measure_sizes(self, folder: Path, sets: Mapping[str, FrameSet]) -> _Measured:
        measured = _Measured()
        self._say("Loading the model")
        frames = {name: frame_set.frames for name, frame_set in sets.items()}
        with ExitStack() as pools:
            baselines = [
                pools.enter_context(Baseline(frames, self._settings.model_dir, self._cores, weights))
                for weights in weights_of(self._settings)
                if weights is not None
            ]
            for name, frame_set in sets.items():
                with open_session(folder / name, self._cores, self._plan) as session:
                    self._measure_size(session, frame_set, baselines, measured)
        return measured

    def _measure_size(
        self, session: Session, frames: FrameSet, baselines: Sequence[Baseline], measured: _Measured
    ) -> None:
        name = frames.size.name
        is_main = frames.size == self._plan.main
        workloads = self._workloads(session, frames, awaited=is_main)
        for make in workloads.values():
            session.run(make(), self._plan.warm_up)
        paces: dict[str, list[Pace]] = {baseline.weights: [] for baseline in baselines}
        rounds: dict[str, list[Round]] = {kind: [] for kind in workloads}
        for number in range(self._plan.rounds):
            self._say(f"{name}: baseline, {', '.join(workloads)} ({number + 1} of {self._plan.rounds})")
            for baseline in baselines:
                paces[baseline.weights].append(baseline.measure(name, self._plan.seconds))
            for kind, make in workloads.items():
                rounds[kind].append(session.run(make()))
        chosen = paces[baselines[0].weights]
        throughputs = {kind: throughput(chosen, rounds[kind]) for kind in workloads}
        measured.sizes[name] = SizeResult(
            describe_frames(frames),
            baseline_result(chosen),
            {weights: baseline_result(series) for weights, series in paces.items()},
            throughputs,
        )
        if is_main:
            max_rate = throughputs[AWAITED].images_per_second.median
            measured.latency = self._measure_latency(session, frames, max_rate)
            measured.memory = _memory(session.stack)
        session.check()

    def _workloads(
        self, session: Session, frames: FrameSet, *, awaited: bool
    ) -> dict[str, Callable[[], Workload]]:
        """Return a factory of each workload."""
        single, bulk = singles(frames.frames), bulks(frames.frames)
        waiting = singles(frames.frames, wait=True)
        window = self._plan.batches_in_flight * self._settings.max_batch * len(session.stack.workers)
        workloads: dict[str, Callable[[], Workload]] = {
            SINGLE: lambda: UploadAndQuery(session.address, single, SINGLE_CLIENTS, window),
            BULK: lambda: UploadAndQuery(session.address, bulk, BULK_CLIENTS, window),
        }
        if awaited:
            workloads[AWAITED] = lambda: UploadAndWait(session.address, waiting, WAITING_CLIENTS)
        return workloads

    def _measure_latency(
        self, session: Session, frames: FrameSet, max_rate: float
    ) -> dict[str, LatencyResult]:
        """Measure an idle system, and shares of `max_rate` images/s."""
        requests = singles(frames.frames, wait=True)
        rates = {f"{share:.0%}": share * max_rate for share in self._plan.utilisations}
        rounds: dict[str, list[_Timed]] = defaultdict(list)
        for number in range(self._plan.rounds):
            self._say(f"{frames.size.name}: latency ({number + 1} of {self._plan.rounds})")
            idle = Sequential(session.address, requests, self._plan.min_samples)
            rounds[IDLE].append(_Timed(idle.latencies, [0.0], session.run(idle).stages))
            for name, rate in rates.items():
                arrivals = PoissonArrivals(session.address, requests, rate, seed=number)
                seconds = max(self._plan.seconds, self._plan.min_samples / rate)
                stages = session.run(arrivals, seconds).stages
                rounds[name].append(_Timed(arrivals.latencies, arrivals.delays, stages))
        return {
            name: LatencyResult(
                rate=rates.get(name, 0.0),
                latency=latency([timed.latencies for timed in series]),
                late_ms=1000 * percentile([delay for timed in series for delay in timed.delays], 0.99),
                stages=series[-1].stages,
            )
            for name, series in rounds.items()
        }

    def _measure_scale(
        self, folder: Path, frames: FrameSet, measured: SizeResult
    ) -> tuple[ScalingResult, ...]:
        """Measure other numbers of workers than one per core, which is already `measured`."""
        rates: dict[int, dict[str, list[float]]] = {
            workers: {SINGLE: [], BULK: []} for workers in self._plan.workers if workers != self._cores
        }
        for number in range(self._plan.rounds):
            for workers, series in rates.items():
                self._say(f"{workers} workers ({number + 1} of {self._plan.rounds})")
                with open_session(folder / "scale", workers, self._plan) as session:
                    for kind, make in self._workloads(session, frames, awaited=False).items():
                        series[kind].append(session.run(make()).window.rate)
                    session.check()
        known = (measured.workloads[kind].images_per_second for kind in (SINGLE, BULK))
        scale = [ScalingResult(self._cores, *known)]
        scale += [
            ScalingResult(workers, spread(series[SINGLE]), spread(series[BULK]))
            for workers, series in rates.items()
        ]
        return tuple(sorted(scale, key=lambda scaling: scaling.workers))

    def _measure_without_workers(
        self, folder: Path, frames: FrameSet
    ) -> tuple[dict[str, IngestResult], Backlog, dict[str, list[float]]]:
        plan = self._plan
        with open_session(folder / "backlog", 0, plan) as session:
            self._say(f"Calls with up to {max(plan.pending):,} jobs pending")
            environment = session.stack.variables()
            backlog = measure_backlog(
                session.jobs,
                Envelope(make_app(Settings(redis_url=SecretStr(environment[f"{PREFIX}REDIS_URL"])))),
                session.address,
                singles(frames.frames)[0].data,
                plan.pending,
                samples=plan.min_samples,
                rounds=plan.rounds,
            )
            accepting = self._measure_ingest(session, frames)
            empty(session.jobs.client)
            self._say("Starts of a worker and of the API")
            starts = {
                "worker": [worker_start(session.jobs, environment) for _ in range(plan.starts)],
                "api": [api_start(environment) for _ in range(plan.starts)],
            }
        return accepting, backlog, starts

    def _measure_ingest(self, session: Session, frames: FrameSet) -> dict[str, IngestResult]:
        single, bulk = singles(frames.frames), bulks(frames.frames)
        workloads: dict[str, Callable[[], Workload]] = {
            SINGLE: lambda: UploadOnly(session.address, single, SINGLE_CLIENTS),
            BULK: lambda: UploadOnly(session.address, bulk, BULK_CLIENTS),
        }
        windows: dict[str, list[Window]] = {kind: [] for kind in workloads}
        for number in range(self._plan.rounds):
            self._say(f"Uploads without workers ({number + 1} of {self._plan.rounds})")
            for kind, make in workloads.items():
                windows[kind].append(session.window(make()))
        return {kind: ingest_result(series) for kind, series in windows.items()}

    def _stored(self, sets: Mapping[str, FrameSet]) -> int:
        """Estimate the bytes of one stack's images."""
        seconds = (self._plan.seconds + self._plan.warm_up) * (self._plan.rounds + 1)
        workloads = 3 + len(self._plan.utilisations)
        size = max(frames.mean_bytes for frames in sets.values())
        return round(size * _MAX_RATE * self._cores * seconds * workloads)


@dataclass
class _Measured:
    """Figures from the stacks with workers."""

    sizes: dict[str, SizeResult] = field(default_factory=dict)
    latency: dict[str, LatencyResult] = field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Timed:
    """Latencies of one round and delays of the load generator, seconds."""

    latencies: Sequence[float]
    delays: Sequence[float]
    stages: Stages


def _memory(stack: Stack) -> dict[str, dict[str, Memory]]:
    """Return the memory of one worker's processes and of the API's."""
    roles = roles_of(stack)
    master, process, *_ = roles["api"]
    return {
        "worker": {"parent": memory(roles[WORKER_PARENT][0]), "child": memory(roles[WORKER_CHILD][0])},
        "api": {"master": memory(master), "process": memory(process)},
    }
