"""Runners of sinks on a real Redis: at least once, in order, by one process at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.redis import keys
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.redis.leader import Leader
from core.redis.recent_results import RecentResults
from core.redis.results import unbroken
from core.redis.sinks import ARCHIVE, MQTT, SinkStore
from core.settings import Settings
from tests.integration.test_feed import HOUR_MS, accept, settle
from tests.support.feed import recent_of
from tests.support.servers import wait_until
from worker.sinks.__main__ import run
from worker.sinks.leadership import Leadership
from worker.sinks.runner import DeliveryError, Runner


class Recorder:
    """A sink that keeps ids, three at a time, and fails on request."""

    gather = 0.0
    max_pause = 10.0

    def __init__(self, feed: Feed, name: str = "recorder") -> None:
        self.name = name
        self.fails = ""
        self.ids: list[str] = []
        self._feed = feed

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Keep the ids of the next results."""
        piece = self._feed.read(cursor, 3)
        self.ids += [settled.job_id for settled in piece]
        if piece and self.fails:
            raise DeliveryError(self.fails)
        return piece[-1].cursor if piece else None

    def close(self) -> None:
        """Nothing is open."""


@contextmanager
def running(jobs: JobStore, sink: Recorder, leads: Callable[[], bool] = lambda: True) -> Iterator[None]:
    """Run a sink."""
    runner = Runner(sink, jobs.client, recent_of(jobs), leads)
    runner.start()
    try:
        yield
    finally:
        runner.stop()
        runner.join()


def test_a_sink_gets_every_result_in_order(jobs: JobStore) -> None:
    """Those that are there, those that come, and after a pause those of meanwhile."""
    feed = Feed(jobs.client)
    sink, store = Recorder(feed), SinkStore(jobs.client, feed)
    ids = settle(jobs, accept(jobs, 7))
    with running(jobs, sink):
        wait_until(lambda: sink.ids == ids, "the first results", 20)
        ids += settle(jobs, accept(jobs, 2))
        wait_until(lambda: sink.ids == ids, "the next results", 20)
    ids += settle(jobs, accept(jobs, 2))
    assert [(state.name, state.behind > 0) for state in store.states()] == [("recorder", True)]
    with running(jobs, sink):
        wait_until(lambda: sink.ids == ids, "the results of meanwhile", 20)
    assert store.states()[0].behind == 0


def test_a_sink_that_fails_says_why_and_goes_on(jobs: JobStore) -> None:
    """The same results are delivered again."""
    feed = Feed(jobs.client)
    sink, store = Recorder(feed), SinkStore(jobs.client, feed)
    sink.fails = "The receiver is closed."
    ids = settle(jobs, accept(jobs, 4))
    with running(jobs, sink):
        wait_until(lambda: [state.error for state in store.states()] == [sink.fails], "the sentence", 20)
        sink.fails = ""
        wait_until(lambda: sink.ids[-4:] == ids, "all results", 20)
        wait_until(lambda: store.states()[0].error == "", "the sentence to go", 20)
    assert sink.ids[:3] == ids[:3]


def test_after_an_hour_of_failures_a_sink_is_back_at_once(jobs: JobStore) -> None:
    """Pauses grow to the sink's longest, with no thread that sleeps through the hour."""
    feed = Feed(jobs.client)
    sink, store = Recorder(feed), SinkStore(jobs.client, feed)
    runner = Runner(sink, jobs.client, recent_of(jobs), lambda: True)
    ids = settle(jobs, accept(jobs, 4))
    sink.fails = "The receiver is closed."
    pauses = [runner._step()]
    while sum(pauses) < 3600:
        pauses.append(runner._step())
    assert pauses[0] <= 1
    assert 5 <= min(pauses[4:]) <= max(pauses) <= sink.max_pause
    assert store.states()[0].error == sink.fails
    sink.fails, sink.ids = "", []
    assert [runner._step(), runner._step()] == [0, 0]
    assert (sink.ids, store.states()[0].error) == (ids, "")


def test_one_process_works_and_another_takes_over(jobs: JobStore) -> None:
    """When the first is stopped at once, when it was killed after its time."""
    first, second = Leadership(jobs.client), Leadership(jobs.client)
    first.start()
    wait_until(first.held, "the lead", 10)
    second.start()
    assert not second.held()
    first.stop()
    wait_until(second.held, "the lead to change", 10)
    assert not first.held()
    assert not Leader(jobs.client, "sinks", "third", seconds=5).lead()
    second.stop()
    assert Leader(jobs.client, "sinks", "killed", seconds=1).lead()
    third = Leadership(jobs.client)
    third.start()
    wait_until(third.held, "the lead of a killed process", 20)
    third.stop()


def test_a_sink_in_standby_does_nothing(jobs: JobStore) -> None:
    """Until its process leads."""
    leads: list[bool] = []
    sink = Recorder(Feed(jobs.client))
    ids = settle(jobs, accept(jobs, 2))
    with running(jobs, sink, lambda: bool(leads)):
        assert not sink.ids
        leads.append(True)
        wait_until(lambda: sink.ids == ids, "the results", 20)


def test_a_sink_that_was_away_for_too_long_goes_on_and_counts_it(jobs: JobStore) -> None:
    """Nothing is lost silently."""
    feed = Feed(jobs.client)
    sink, store = Recorder(feed), SinkStore(jobs.client, feed)
    store.advance("recorder", Cursor(jobs.now_ms() - 169 * HOUR_MS))
    ids = settle(jobs, accept(jobs, 2))
    with running(jobs, sink):
        wait_until(lambda: sink.ids == ids, "the results", 20)
    assert [(state.gaps, state.behind) for state in store.states()] == [(1, 0)]
    store.remove("recorder")
    assert store.states() == []
    assert not jobs.client.exists(keys.SINK_GAPS)


def test_a_sink_that_is_turned_off_is_removed_by_the_leader(jobs: JobStore, settings: Settings) -> None:
    """It is behind no longer, other sinks stay; a process in standby leaves it to the leader's settings."""
    store, other = (
        SinkStore(jobs.client, Feed(jobs.client)),
        Leader(jobs.client, "sinks", "other", seconds=60),
    )
    settle(jobs, accept(jobs, 1))
    for name in (ARCHIVE, MQTT, "recorder"):
        store.advance(name, Cursor(jobs.now_ms() - HOUR_MS))
    store.fail(MQTT, "The broker is away.")
    assert other.lead()
    stop = threading.Event()
    off = settings.model_copy(update={"archive": "off"})
    process = threading.Thread(target=run, args=(off, stop))
    process.start()
    try:
        wait_until(
            lambda: any(thread.name == "leadership" for thread in threading.enumerate()), "the process"
        )
        assert [state.name for state in store.states()] == [ARCHIVE, MQTT, "recorder"]
        other.resign()
        wait_until(lambda: [state.name for state in store.states()] == ["recorder"], "the removal", 20)
    finally:
        stop.set()
        process.join()
    assert not jobs.client.exists(keys.SINK_ERRORS)


class ResultRecorder(Recorder):
    """A sink that keeps ids of results, three at a time."""

    def __init__(self, recent: RecentResults) -> None:
        super().__init__(recent.feed)
        self._recent = recent

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Keep the ids of the next results."""
        piece = unbroken(self._recent.read(cursor, 3))
        self.ids += [result.job.id for result in piece if result.job]
        return piece[-1].cursor if piece else None


def test_a_sink_counts_records_that_have_expired_and_goes_on(jobs: JobStore) -> None:
    """Though their entries are left, and though they are in the midst of others."""
    sink, store = ResultRecorder(recent_of(jobs)), SinkStore(jobs.client, Feed(jobs.client))
    ids = settle(jobs, accept(jobs, 12))
    for expired in (*ids[1:3], *ids[5:10]):
        jobs.client.delete(keys.job(expired))
    with running(jobs, sink):
        wait_until(lambda: sink.ids == [*ids[:1], *ids[3:5], *ids[10:]], "the results", 20)
    assert store.states()[0].gaps >= 2


def test_the_archive_is_behind_only_when_an_hour_is_over(jobs: JobStore) -> None:
    """Results of the hour in progress are not due yet."""
    store = SinkStore(jobs.client, Feed(jobs.client))
    now = jobs.now_ms()
    jobs.client.xadd(keys.FEED, {"": bytes(16)}, id=f"{now - 2 * HOUR_MS}-0")
    store.advance(ARCHIVE, Cursor(now - 3 * HOUR_MS))
    assert store.states()[0].behind > 3000
    store.advance(ARCHIVE, Cursor(now - HOUR_MS // 2))
    jobs.client.xadd(keys.FEED, {"": bytes(16)}, id=f"{now}-0")
    assert store.states()[0].behind == 0
