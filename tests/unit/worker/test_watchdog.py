"""worker.watchdog: an event loop that stands still ends the worker, and which worker counts as stuck."""

from __future__ import annotations

import threading
from typing import cast

import pytest

from worker.batching import Batcher
from worker.watchdog import STUCK_SECONDS, LoopWatchdog, ProgressWatchdog


class _Work:
    """What the watchdog sees of a batcher."""

    def __init__(self) -> None:
        self.progress = 0
        self.occupied = False


class Bench:
    """A watchdog, with its clock, its batcher and its backlog at hand."""

    def __init__(self) -> None:
        self.now = 0.0
        self.backlog = 5
        self.batcher = _Work()
        self._watchdog = ProgressWatchdog(lambda: self.backlog, lambda: self.now)

    def stuck_after(self, seconds: float, *, looks: int = 4) -> bool:
        """Look as often within this time; return what the last look says."""
        found = False
        for _ in range(looks):
            self.now += seconds / looks
            found = self._watchdog.stuck(cast(Batcher, self.batcher))
        return found


@pytest.fixture
def bench() -> Bench:
    """One that has been looked at once."""
    made = Bench()
    made.stuck_after(0, looks=1)
    return made


def test_a_worker_that_takes_nothing_from_a_backlog_is_stuck(bench: Bench) -> None:
    """Not before the time is up."""
    assert not bench.stuck_after(STUCK_SECONDS - 1)
    assert bench.stuck_after(1)


def test_one_that_makes_progress_is_not(bench: Bench) -> None:
    """The time begins again with every message and batch."""
    bench.stuck_after(STUCK_SECONDS - 1)
    bench.batcher.progress += 1
    assert not bench.stuck_after(1, looks=1)
    assert not bench.stuck_after(STUCK_SECONDS - 1)
    assert bench.stuck_after(1)


def test_one_without_work_or_with_a_reason_is_not(bench: Bench) -> None:
    """No backlog; a batch that runs, or a pause while storage is down; no connection."""
    bench.backlog = 0
    assert not bench.stuck_after(10 * STUCK_SECONDS)
    bench.backlog = 5
    bench.batcher.occupied = True
    assert not bench.stuck_after(10 * STUCK_SECONDS)
    bench.batcher.occupied = False
    assert not bench.stuck_after(STUCK_SECONDS - 1)
    assert bench.stuck_after(1)


def test_a_new_connection_begins_anew(bench: Bench) -> None:
    """A batcher belongs to one connection; its successor's count is not compared with its own."""
    bench.stuck_after(STUCK_SECONDS - 1)
    bench.batcher = _Work()
    assert not bench.stuck_after(1, looks=1)
    assert bench.stuck_after(STUCK_SECONDS)


def test_a_loop_that_stands_still_ends_the_worker() -> None:
    """Once nothing beats for as many seconds as it may."""
    ended = threading.Event()
    LoopWatchdog(ended.set, most=2).start()
    assert ended.wait(30)


def test_a_loop_that_turns_does_not() -> None:
    """Nor one that rests because the worker stops."""
    ended = threading.Event()
    watched = LoopWatchdog(ended.set, most=2)
    watched.start()
    for _ in range(40):
        watched.beat()
        assert not ended.wait(0.1)
    watched.stop()
    assert not ended.wait(3)
