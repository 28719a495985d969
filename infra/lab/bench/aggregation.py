"""Results aggregated over the rounds."""

from __future__ import annotations

from collections.abc import Sequence

from infra.cli.options import cores
from infra.lab.bench.baseline import Pace
from infra.lab.bench.frames import FrameSet
from infra.lab.bench.measure import Window
from infra.lab.bench.result import BaselineResult, Frames, IngestResult, Throughput
from infra.lab.bench.session import Round
from infra.lab.bench.spread import Spread, spread


def baseline_result(paces: Sequence[Pace]) -> BaselineResult:
    """Aggregate rounds of the baseline."""
    return BaselineResult(
        spread(pace.images_per_second for pace in paces), spread(pace.cpu_ms for pace in paces)
    )


def throughput(paces: Sequence[Pace], rounds: Sequence[Round]) -> Throughput:
    """Aggregate rounds of one workload, each compared with the baseline of the same round."""
    windows = [measured.window for measured in rounds]
    rates = [window.rate for window in windows]
    totals = [sum(_cpu_ms(window).values()) for window in windows]
    return Throughput(
        images_per_second=spread(rates),
        ratio=spread(rate / pace.images_per_second for rate, pace in zip(rates, paces, strict=True)),
        cpu_ratio=spread(pace.cpu_ms / total for pace, total in zip(paces, totals, strict=True)),
        cpu_ms=_cpu_by_role(windows),
        cpu_ms_total=spread(totals),
        busy=spread(map(_busy, windows)),
        retried=sum(window.retried for window in windows),
        stages=rounds[-1].stages,
    )


def ingest_result(windows: Sequence[Window]) -> IngestResult:
    """Aggregate rounds of uploads without workers."""
    return IngestResult(spread(window.rate for window in windows), _cpu_by_role(windows))


def describe_frames(frames: FrameSet) -> Frames:
    """Return the properties of the frames."""
    return Frames(frames.size.width, frames.size.height, len(frames.frames), frames.mean_bytes)


def _cpu_by_role(windows: Sequence[Window]) -> dict[str, Spread]:
    rounds = [_cpu_ms(window) for window in windows]
    return {role: spread(cpu_ms[role] for cpu_ms in rounds) for role in rounds[0]}


def _cpu_ms(window: Window) -> dict[str, float]:
    """Return CPU milliseconds an image by role."""
    return {role: 1000 * seconds / window.accepted for role, seconds in window.cpu.items()}


def _busy(window: Window) -> float:
    """Return the share of the cores' time that was not idle."""
    idle = window.end.idle - window.begin.idle
    return max(0.0, 1 - idle / (window.seconds * cores()))
