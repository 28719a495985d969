"""What several rounds come to."""

from __future__ import annotations

from collections.abc import Sequence

import psutil

from infra.lab.bench import report
from infra.lab.bench.baseline import Pace
from infra.lab.bench.figures import spread
from infra.lab.bench.frames import FrameSet
from infra.lab.bench.load import Window
from infra.lab.bench.session import Round


def limit_of(paces: Sequence[Pace]) -> report.Baseline:
    """Summarise the limit."""
    return report.Baseline(
        spread(pace.images_per_second for pace in paces), spread(pace.cpu_ms for pace in paces)
    )


def throughput(paces: Sequence[Pace], rounds: Sequence[Round]) -> report.Throughput:
    """Summarise rounds of one load, each beside the limit of the same round."""
    windows = [one.window for one in rounds]
    rates = [window.rate for window in windows]
    used = [_cpu_ms(window) for window in windows]
    totals = [sum(one.values()) for one in used]
    return report.Throughput(
        images_per_second=spread(rates),
        ratio=spread(rate / pace.images_per_second for rate, pace in zip(rates, paces, strict=True)),
        cpu_ratio=spread(pace.cpu_ms / total for pace, total in zip(paces, totals, strict=True)),
        cpu_ms={role: spread(one[role] for one in used) for role in used[0]},
        cpu_ms_total=spread(totals),
        busy=spread(map(_busy, windows)),
        refused=sum(window.refused for window in windows),
        stages=rounds[-1].stages,
    )


def accepting(windows: Sequence[Window]) -> report.Accepting:
    """Summarise rounds of uploads without workers."""
    used = [_cpu_ms(window) for window in windows]
    return report.Accepting(
        images_per_second=spread(window.rate for window in windows),
        cpu_ms={role: spread(one[role] for one in used) for role in used[0]},
    )


def about(frames: FrameSet) -> report.Frames:
    """Describe frames."""
    return report.Frames(frames.size.width, frames.size.height, len(frames.frames), frames.mean_bytes)


def _cpu_ms(window: Window) -> dict[str, float]:
    """Return CPU milliseconds an image by role."""
    return {role: 1000 * seconds / window.accepted for role, seconds in window.cpu.items()}


def _busy(window: Window) -> float:
    """Return the share of all cores' time that was not idle."""
    idle = window.end.idle - window.begin.idle
    return max(0.0, 1 - idle / (window.seconds * (psutil.cpu_count() or 1)))
