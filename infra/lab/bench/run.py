"""One run: every measurement in turn."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from core.messages import Envelope, make_app
from core.model.engine import LiteRtEngine, Weights, choose_weights
from core.model.manifest import load_manifest
from core.settings import Settings, load_settings
from infra.lab.bench import machine, report, summary
from infra.lab.bench.backlog import Backlog, measure_backlog
from infra.lab.bench.baseline import Baseline, Pace
from infra.lab.bench.errors import BenchError
from infra.lab.bench.figures import latency, percentile, spread
from infra.lab.bench.frames import FrameSet, make_frames
from infra.lab.bench.load import (
    BULK_CLIENTS,
    SINGLE_CLIENTS,
    WAITING_CLIENTS,
    Awaited,
    Collected,
    Load,
    Paced,
    Sequential,
    Uploaded,
    Window,
    bulks,
    singles,
)
from infra.lab.bench.plan import Plan
from infra.lab.bench.session import Round, Session
from infra.lab.bench.sizing import size_fleet
from infra.lab.bench.stack import Stack, empty
from infra.lab.bench.stages import Stages
from infra.lab.bench.startup import api_start, worker_start
from infra.lab.bench.usage import Memory, memory

SINGLE: Final = "single"
BULK: Final = "bulk"
AWAITED: Final = "awaited"
IDLE: Final = "idle"

_FASTEST: Final = 250.0  # images/s and core, to estimate what is stored


class Run:
    """Measures by a plan.

    Args:
        plan: what, how often and how long.
        images: folder or .tar of pictures that frames are made of; None for those shipped.
        cores: of this machine that may be used; also the number of workers.
        say: told what is being done.
    """

    def __init__(self, plan: Plan, images: Path | None, cores: int, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._images = images
        self._cores = cores
        self._say = say
        self._settings = load_settings()

    def measure(self) -> report.Report:
        """Do everything; nothing that was started runs on, and nothing that was stored stays.

        Raises:
            BenchError: there are no images, no disk space, or the stack does not start.
            BrokenPipelineError: the pipeline does not do what it should.
        """
        warnings = machine.warnings()
        runs, _ = self._engines()
        model = LiteRtEngine(self._settings.model_dir, weights=runs).manifest.model_id
        self._say("Making frames")
        sets = make_frames(self._plan.sizes, self._plan.frames, self._images)
        main = sets[self._plan.main.name]
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wastestream-bench-")))
            _check_space(folder, self._stored(sets))
            found = self._measure_sizes(folder, sets)
            scale = self._measure_scale(folder, main, found.sizes[main.size.name])
            accepting, growth, starts = self._measure_without_workers(folder, main)
        single = found.sizes[main.size.name].loads[SINGLE]
        return report.Report(
            made_at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=machine.describe(self._cores),
            settings=self._used_settings(model),
            sizes=found.sizes,
            latency=found.latency,
            accepting=accepting,
            growth=growth,
            scale=scale,
            processes={
                name: report.ProcessResult(spread(starts[name]), held) for name, held in found.memory.items()
            },
            sizing=size_fleet({role: used.median for role, used in single.cpu_ms.items()}),
            warnings=tuple(warnings),
        )

    def _measure_sizes(self, folder: Path, sets: Mapping[str, FrameSet]) -> _Found:
        found = _Found()
        self._say("Loading the model")
        frames = {name: one.frames for name, one in sets.items()}
        with ExitStack() as limits:
            engines = [
                limits.enter_context(Baseline(frames, self._settings.model_dir, self._cores, weights))
                for weights in self._engines()
                if weights is not None
            ]
            for one in sets.values():
                with Stack(folder / one.size.name, self._cores) as stack:
                    self._measure_size(Session(stack, self._plan), one, engines, found)
        return found

    def _engines(self) -> tuple[Weights, Weights | None]:
        """Return the weights that the workers run, and the model's others, if it has them."""
        folder, wanted = self._settings.model_dir, self._settings.engine
        runs = choose_weights("float" if wanted == "tensorflow" else wanted, folder)
        if load_manifest(folder).int8 is None:
            return runs, None
        return runs, "float" if runs == "int8" else "int8"

    def _measure_size(
        self, session: Session, frames: FrameSet, limits: Sequence[Baseline], found: _Found
    ) -> None:
        name = frames.size.name
        is_main = frames.size == self._plan.main
        loads = self._loads(session, frames, awaited=is_main)
        for make in loads.values():
            session.run(make(), self._plan.warm_up)
        paces: dict[Weights, list[Pace]] = {limit.weights: [] for limit in limits}
        rounds: dict[str, list[Round]] = {kind: [] for kind in loads}
        for number in range(self._plan.rounds):
            self._say(f"{name}: limit, {', '.join(loads)} ({number + 1} of {self._plan.rounds})")
            for limit in limits:
                paces[limit.weights].append(limit.measure(name, self._plan.seconds))
            for kind, make in loads.items():
                rounds[kind].append(session.run(make()))
        runs = paces[limits[0].weights]
        throughputs = {kind: summary.throughput(runs, rounds[kind]) for kind in loads}
        found.sizes[name] = report.SizeResult(
            summary.about(frames),
            summary.limit_of(runs),
            {weights: summary.limit_of(found_paces) for weights, found_paces in paces.items()},
            throughputs,
        )
        if is_main:
            most = throughputs[AWAITED].images_per_second.median
            found.latency = self._measure_latency(session, frames, most)
            found.memory = _memory(session.stack)
        session.check()

    def _loads(self, session: Session, frames: FrameSet, *, awaited: bool) -> dict[str, Callable[[], Load]]:
        """Return what makes each kind of load."""
        one, many = singles(frames.frames), bulks(frames.frames)
        waiting = singles(frames.frames, wait=True)
        window = self._plan.batches_under_way * self._settings.max_batch * session.stack.workers
        loads: dict[str, Callable[[], Load]] = {
            SINGLE: lambda: Collected(session.address, one, SINGLE_CLIENTS, window),
            BULK: lambda: Collected(session.address, many, BULK_CLIENTS, window),
        }
        if awaited:
            loads[AWAITED] = lambda: Awaited(session.address, waiting, WAITING_CLIENTS)
        return loads

    def _measure_latency(
        self, session: Session, frames: FrameSet, most: float
    ) -> dict[str, report.Answering]:
        """Measure an idle system, and shares of `most` images/s."""
        requests = singles(frames.frames, wait=True)
        rates = {f"{share:.0%}": share * most for share in self._plan.loads}
        found: dict[str, list[_Timed]] = defaultdict(list)
        for number in range(self._plan.rounds):
            self._say(f"{frames.size.name}: latency ({number + 1} of {self._plan.rounds})")
            idle = Sequential(session.address, requests, self._plan.least_samples)
            found[IDLE].append(_Timed(idle.latencies, [0.0], session.run(idle).stages))
            for name, rate in rates.items():
                paced = Paced(session.address, requests, rate, seed=number)
                seconds = max(self._plan.seconds, self._plan.least_samples / rate)
                found[name].append(_Timed(paced.latencies, paced.delays, session.run(paced, seconds).stages))
        return {
            name: report.Answering(
                rate=rates.get(name, 0.0),
                latency=latency([one.latencies for one in timed]),
                late_ms=1000 * percentile([delay for one in timed for delay in one.delays], 0.99),
                stages=timed[-1].stages,
            )
            for name, timed in found.items()
        }

    def _measure_scale(
        self, folder: Path, frames: FrameSet, measured: report.SizeResult
    ) -> tuple[report.Scale, ...]:
        """Measure other numbers of workers than one per core, which has been `measured`."""
        found: dict[int, dict[str, list[float]]] = {
            workers: {SINGLE: [], BULK: []} for workers in self._plan.workers if workers != self._cores
        }
        for number in range(self._plan.rounds):
            for workers, rates in found.items():
                self._say(f"{workers} workers ({number + 1} of {self._plan.rounds})")
                with Stack(folder / "scale", workers) as stack:
                    session = Session(stack, self._plan)
                    for kind, make in self._loads(session, frames, awaited=False).items():
                        rates[kind].append(session.run(make()).window.rate)
                    session.check()
        known = (measured.loads[kind].images_per_second for kind in (SINGLE, BULK))
        others = [
            report.Scale(workers, spread(rates[SINGLE]), spread(rates[BULK]))
            for workers, rates in found.items()
        ]
        return tuple(sorted([report.Scale(self._cores, *known), *others], key=lambda one: one.workers))

    def _measure_without_workers(
        self, folder: Path, frames: FrameSet
    ) -> tuple[dict[str, report.Accepting], Backlog, dict[str, list[float]]]:
        plan = self._plan
        with Stack(folder / "waiting", workers=0) as stack:
            session = Session(stack, plan)
            self._say(f"Calls with up to {max(plan.pending):,} jobs pending")
            envelope = Envelope(make_app(Settings(redis_url=SecretStr(stack.redis_url))))
            request = singles(frames.frames)[0].data
            growth = measure_backlog(
                stack.jobs,
                envelope,
                session.address,
                request,
                plan.pending,
                samples=plan.least_samples,
                rounds=plan.rounds,
            )
            accepting = self._measure_accepting(session, frames)
            empty(stack.jobs.client)
            self._say("Starts of a worker and of the API")
            starts = {
                "worker": [worker_start(stack.jobs, stack.environment) for _ in range(plan.starts)],
                "api": [api_start(stack.environment) for _ in range(plan.starts)],
            }
        return accepting, growth, starts

    def _measure_accepting(self, session: Session, frames: FrameSet) -> dict[str, report.Accepting]:
        one, many = singles(frames.frames), bulks(frames.frames)
        loads: dict[str, Callable[[], Load]] = {
            SINGLE: lambda: Uploaded(session.address, one, SINGLE_CLIENTS),
            BULK: lambda: Uploaded(session.address, many, BULK_CLIENTS),
        }
        windows: dict[str, list[Window]] = {kind: [] for kind in loads}
        for number in range(self._plan.rounds):
            self._say(f"Uploads without workers ({number + 1} of {self._plan.rounds})")
            for kind, make in loads.items():
                windows[kind].append(session.window(make()))
        return {kind: summary.accepting(found) for kind, found in windows.items()}

    def _used_settings(self, model: str) -> dict[str, Any]:
        return {
            "seconds": self._plan.seconds,
            "rounds": self._plan.rounds,
            "images": "shipped" if self._images is None else "given",
            "main": self._plan.main.name,
            "workers": self._cores,
            "api_processes": self._settings.api_processes,
            "api_threads": self._settings.api_threads,
            "max_batch": self._settings.max_batch,
            "engine": self._engines()[0],
            "model": model,
        }

    def _stored(self, sets: Mapping[str, FrameSet]) -> int:
        """Return roughly the bytes that the images of one stack take."""
        seconds = (self._plan.seconds + self._plan.warm_up) * (self._plan.rounds + 1)
        kinds = 3 + len(self._plan.loads)
        return round(max(one.mean_bytes for one in sets.values()) * _FASTEST * self._cores * seconds * kinds)


@dataclass
class _Found:
    """What the stacks with workers gave."""

    sizes: dict[str, report.SizeResult] = field(default_factory=dict)
    latency: dict[str, report.Answering] = field(default_factory=dict)
    memory: dict[str, dict[str, Memory]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Timed:
    """Latencies of one round, and how late the load generator was, seconds."""

    latencies: Sequence[float]
    delays: Sequence[float]
    stages: Stages


def _memory(stack: Stack) -> dict[str, dict[str, Memory]]:
    """Return the memory of one worker's processes and of the API's."""
    roles = stack.roles()
    master, *served = roles["api"]
    return {
        "worker": {
            "parent": memory(roles["worker parent"][0]),
            "child": memory(roles["worker child"][0]),
        },
        "api": {"master": memory(master), "process": memory(served[0])},
    }


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BenchError(
            f"The images may take {needed / 1e9:.1f} GB, and {folder.parent} has {free / 1e9:.1f} GB. "
            "Name a folder with more by the environment variable TMPDIR, or fewer --seconds."
        )
