"""worker.watchdog: a blocked event loop ends the worker; a worker without progress counts as stuck."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from worker.batching import Batcher
from worker.watchdog import PROGRESS_TIMEOUT, LoopWatchdog, ProgressWatchdog


class _Work:
    """A batcher as the watchdog uses it."""

    def __init__(self) -> None:
        self.progress = 0
        self.is_busy = False


class Bench:
    """A watchdog, with its clock, its batcher and its backlog at hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.backlog = 5
        self.batcher = _Work()
        self._watchdog = ProgressWatchdog(lambda: self.backlog, lambda: self.now)

    def stuck_after(self, seconds: float, *, looks: int = 4) -> bool:
        """Check `looks` times within this time; return the last result."""
        stuck = False
        for _ in range(looks):
            self.now += seconds / looks
            stuck = self._watchdog.stuck(cast(Batcher, self.batcher))
        return stuck


@pytest.fixture
def bench() -> Bench:
    """One that has been looked at once."""
    bench = Bench()
    bench.stuck_after(0, looks=1)
    return bench


def test_a_worker_that_takes_nothing_from_a_backlog_is_stuck(bench: Bench) -> None:
    """Not before the time is up."""
    assert not bench.stuck_after(PROGRESS_TIMEOUT - 1)
    assert bench.stuck_after(1)


def test_one_that_makes_progress_is_not(bench: Bench) -> None:
    """The time begins again with every message and batch."""
    bench.stuck_after(PROGRESS_TIMEOUT - 1)
    bench.batcher.progress += 1
    assert not bench.stuck_after(1, looks=1)
    assert not bench.stuck_after(PROGRESS_TIMEOUT - 1)
    assert bench.stuck_after(1)


def test_one_without_work_or_with_a_reason_is_not(bench: Bench) -> None:
    """No backlog; a batch that runs, or a pause while storage is down; no connection."""
    bench.backlog = 0
    assert not bench.stuck_after(10 * PROGRESS_TIMEOUT)
    bench.backlog = 5
    bench.batcher.is_busy = True
    assert not bench.stuck_after(10 * PROGRESS_TIMEOUT)
    bench.batcher.is_busy = False
    assert not bench.stuck_after(PROGRESS_TIMEOUT - 1)
    assert bench.stuck_after(1)


def test_a_new_connection_begins_anew(bench: Bench) -> None:
    """A batcher belongs to one connection; its successor's count is not compared with its own."""
    bench.stuck_after(PROGRESS_TIMEOUT - 1)
    bench.batcher = _Work()
    assert not bench.stuck_after(1, looks=1)
    assert bench.stuck_after(PROGRESS_TIMEOUT)


def test_a_blocked_loop_ends_the_worker() -> None:
    """After its timeout without a beat."""
    ended = threading.Event()
    LoopWatchdog(ended.set, timeout=2).start()
    assert ended.wait(30)


def test_a_running_loop_does_not() -> None:
    """Nor a loop that stops because the worker shuts down."""
    ended = threading.Event()
    watched = LoopWatchdog(ended.set, timeout=2)
    watched.start()
    for _ in range(40):
        watched.beat()
        assert not ended.wait(0.1)
    watched.stop()
    assert not ended.wait(3)
