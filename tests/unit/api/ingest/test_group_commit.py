"""Group commit: the groups of concurrent items, their results and their errors."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from api.ingest import group_commit
from api.ingest.group_commit import GroupCommit
from core.errors import QueueFullError
from tests.support.servers import wait_until

MAX_ITEMS = 4  # items in a group


class Bench:
    """Group commit whose work needs a permit: items that arrive before it are in the next group."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.permits = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.commit: GroupCommit[int, int] = GroupCommit(self.work, lambda items: min(MAX_ITEMS, len(items)))
        self.pool = ThreadPoolExecutor(32)

    def work(self, items: list[int]) -> Sequence[int | Exception]:
        """Double even numbers; odd ones are errors."""
        self.groups.append(items)
        self.permits.acquire()
        if self.error is not None:
            raise self.error
        return [ValueError(str(item)) if item % 2 else 2 * item for item in items]

    def start(self, *items: int) -> list[Future[int]]:
        """Bring items, each from a thread of its own, in this order."""
        futures = []
        for item in items:
            waiting = len(self.commit._waiting) + len(self.groups)
            futures.append(self.pool.submit(self.commit.do, item))
            wait_until(
                lambda: len(self.commit._waiting) + len(self.groups) > waiting,  # noqa: B023
                "the item to arrive",
            )
        return futures


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Group commit whose items wait as long as they must."""
    monkeypatch.setattr(group_commit, "MAX_WAIT", 60)
    bench = Bench()
    yield bench
    bench.permits.release(100)
    bench.pool.shutdown()


def test_what_comes_during_one_group_makes_the_next(bench: Bench) -> None:
    """The first goes alone and at once; later items form groups, in order, as many as fit."""
    futures = bench.start(0, 2, 4, 6, 8, 10)
    bench.permits.release(3)
    assert [future.result(10) for future in futures] == [0, 4, 8, 12, 16, 20]
    assert bench.groups == [[0], [2, 4, 6, 8], [10]]


def test_each_thread_gets_its_own_error(bench: Bench) -> None:
    """One item's error does not touch the others of its group."""
    first, good, bad, last = bench.start(0, 2, 3, 4)
    bench.permits.release(2)
    assert (first.result(10), good.result(10), last.result(10)) == (0, 4, 8)
    with pytest.raises(ValueError, match="3"):
        bad.result(10)


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1)])
def test_what_ends_the_work_ends_all_of_its_group(bench: Bench, error: BaseException) -> None:
    """With any error, no thread waits for ever, and the next group is done as usual."""
    (first,) = bench.start(0)
    ruined = bench.start(2, 4)
    bench.permits.release()
    assert first.result(10) == 0
    wait_until(lambda: len(bench.groups) == 2, "the second group")
    bench.error = error
    bench.permits.release()
    for future in ruined:
        with pytest.raises(type(error)):
            future.result(10)
    bench.error = None
    bench.permits.release()
    assert bench.start(6)[0].result(10) == 12


def test_those_who_wait_long_go_alongside(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first group hangs, the second begins and ends; later items do not even wait."""
    (hanging,) = bench.start(0)
    monkeypatch.setattr(group_commit, "MAX_WAIT", 0.01)
    other = bench.pool.submit(bench.commit.do, 2)
    wait_until(lambda: len(bench.groups) == 2, "the second group to begin beside the first")
    assert not other.done()
    monkeypatch.setattr(group_commit, "MAX_WAIT", 0.0)
    later = bench.pool.submit(bench.commit.do, 4)
    wait_until(lambda: len(bench.groups) == 3, "the third group to begin beside both")
    bench.permits.release(3)
    assert (hanging.result(10), other.result(10), later.result(10)) == (0, 4, 8)


def test_who_cannot_be_measured_breaks_nothing(bench: Bench) -> None:
    """An error of `fit` is that of the thread that asked; the next one is served."""
    fit = bench.commit._fit
    bench.commit._fit = lambda _: 1 // 0
    with pytest.raises(ZeroDivisionError):
        bench.commit.do(0)
    bench.commit._fit = fit
    bench.permits.release()
    assert bench.commit.do(2) == 4


class Upload:
    """Something whose end can be seen."""


@pytest.mark.parametrize("whole", [False, True])
def test_an_error_does_not_keep_its_item(*, whole: bool) -> None:
    """Once it is handled the item is free, without the garbage collector: an item may be 8 MB."""

    def work(items: list[Upload]) -> list[ValueError]:
        if whole:
            raise ValueError("no")
        return [ValueError("no") for _ in items]

    commit: GroupCommit[Upload, int] = GroupCommit(work, len)
    item = Upload()
    seen = weakref.ref(item)
    gc.disable()
    try:
        with contextlib.suppress(ValueError):
            commit.do(item)
        del item
        assert seen() is None
    finally:
        gc.enable()


def test_an_error_of_a_group_is_each_threads_own(bench: Bench) -> None:
    """Raised in several threads, one error would collect all their frames."""
    (first,) = bench.start(0)
    ruined = bench.start(2, 4, 6)
    bench.permits.release()
    assert first.result(10) == 0
    wait_until(lambda: len(bench.groups) == 2, "the second group")
    bench.error = QueueFullError("full", 3.0)  # cannot be copied: it takes more than it keeps
    bench.permits.release()
    errors = [future.exception(10) for future in ruined]
    assert len(set(map(id, errors))) == 3
    assert all("full" in str(error) for error in errors)


def test_everybody_is_served_exactly_once() -> None:
    """Many threads, groups of random length and threads that stop waiting: each gets its own answer."""
    done: list[int] = []

    def work(items: list[int]) -> list[int]:
        time.sleep(0.0005 * (items[0] % 90))
        done.extend(items)
        return [-item for item in items]

    served: GroupCommit[int, int] = GroupCommit(work, lambda items: min(MAX_ITEMS, len(items)))
    with ThreadPoolExecutor(24) as pool:
        assert list(pool.map(served.do, range(1, 2001))) == [-item for item in range(1, 2001)]
    assert sorted(done) == list(range(1, 2001))
