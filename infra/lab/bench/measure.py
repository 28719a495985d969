"""Measurement of a running workload over a window of time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from infra.lab.bench.errors import BrokenPipelineError
from infra.lab.bench.usage import Snapshot
from infra.lab.bench.workload import Workload

_TICK: Final = 0.05  # seconds between two looks at a slow workload


@dataclass(frozen=True, slots=True)
class Window:
    """`images` settled between the snapshots `begin` and `end`, in the steady state.

    `accepted` images, `retried` uploads and CPU seconds by role cover the whole workload, from the first
    upload to the last result.
    """

    images: int
    begin: Snapshot
    end: Snapshot
    accepted: int
    retried: int
    cpu: dict[str, float]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end.at - self.begin.at

    @property
    def rate(self) -> float:
        """Images/s."""
        return self.images / self.seconds


def measure(workload: Workload, look: Callable[[], Snapshot], warm_up: float, seconds: float) -> Window:
    """Run a workload until every image has its result; return the `seconds` that follow the `warm_up`."""
    return asyncio.run(_measure(workload, look, warm_up, seconds))


async def _measure(
    workload: Workload, look: Callable[[], Snapshot], warm_up: float, seconds: float
) -> Window:
    before = look()
    broken: BaseExceptionGroup[Any] | None = None
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(workload.run())
            await asyncio.sleep(warm_up)
            while not workload.warm:  # noqa: ASYNC110 - a slow machine takes its time
                await asyncio.sleep(_TICK)
            begin = look()
            workload.begin()
            await asyncio.sleep(seconds)
            while not workload.settled or workload.settled[-1] < begin.at:  # noqa: ASYNC110 - the same
                await asyncio.sleep(_TICK)
            end = look()
            workload.stop()
            await running
    except* BrokenPipelineError as errors:
        broken = errors
    if broken is not None:  # Raised up there, the first Pythons 3.11 put it into a group again.
        raise _first(broken)
    after = look()
    images = sum(begin.at <= at < end.at for at in workload.settled)
    cpu = {role: after.cpu[role] - before.cpu[role] for role in after.cpu}
    return Window(images, begin, end, workload.accepted, workload.retried, cpu)


def _first(error: BaseExceptionGroup[Any] | BrokenPipelineError) -> BrokenPipelineError:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
