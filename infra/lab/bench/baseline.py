"""The limit: what the machine's cores decode and classify when nothing else has to be done."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np

from core.images import decode
from core.model.engine import SUB_BATCH, LiteRtEngine, Weights
from core.parent_death import die_with_parent

_SOON: Final = 0.2  # seconds until processes that were told to begin all do


@dataclass(frozen=True, slots=True)
class Pace:
    """Images a second of all processes together, and the CPU milliseconds of one image."""

    images_per_second: float
    cpu_ms: float


class Baseline:
    """One process per core, each with its own model, that decode and classify frames from memory.

    A context manager; the processes wait in between measurements. `weights`: which model runs.
    """

    def __init__(
        self, frames: Mapping[str, tuple[bytes, ...]], model: Path, cores: int, weights: Weights
    ) -> None:
        self.weights = weights
        self._cores = cores
        self._pool = ProcessPoolExecutor(
            cores, mp_context=get_context("spawn"), initializer=_load, initargs=(dict(frames), model, weights)
        )

    def __enter__(self) -> Self:
        for name in _names(self._pool):  # Starts the processes and loads the model.
            self.measure(name, 0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def measure(self, name: str, seconds: float) -> Pace:
        """Run on the frames called `name` in all processes at once."""
        start = time.monotonic() + _SOON
        running = [self._pool.submit(_run, name, start, seconds) for _ in range(self._cores)]
        done = [one.result() for one in running]
        images = sum(count for count, _, _ in done)
        return Pace(
            sum(count / elapsed for count, elapsed, _ in done), 1000 * sum(cpu for _, _, cpu in done) / images
        )


class _Loaded:
    """What each process holds."""

    frames: dict[str, tuple[bytes, ...]]
    engine: LiteRtEngine


def _load(frames: dict[str, tuple[bytes, ...]], model: Path, weights: Weights) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command's to handle.
    die_with_parent()
    _Loaded.frames = frames
    _Loaded.engine = LiteRtEngine(model, weights=weights)


def _names(pool: ProcessPoolExecutor) -> list[str]:
    return pool.submit(_known).result()


def _known() -> list[str]:
    return list(_Loaded.frames)


def _run(name: str, start: float, seconds: float) -> tuple[int, float, float]:
    """Return images, seconds, and CPU seconds."""
    frames = cycle(_Loaded.frames[name])
    time.sleep(max(0.0, start - time.monotonic()))
    begun, cpu, images = time.monotonic(), time.process_time(), 0
    while not images or time.monotonic() - begun < seconds:
        _Loaded.engine.logits(np.stack([decode(next(frames)) for _ in range(SUB_BATCH)]))
        images += SUB_BATCH
    return images, time.monotonic() - begun, time.process_time() - cpu
