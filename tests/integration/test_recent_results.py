"""The latest results that the readers of a process share, on a real Redis."""

from __future__ import annotations

import threading

import pytest

from core.errors import CursorExpiredError
from core.redis import recent_results
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from core.redis.recent_results import RecentResults
from tests.integration.test_feed import HOUR_MS, accept, settle
from tests.support.feed import recent_of
from tests.support.servers import wait_until


def read_on(recent: RecentResults, cursor: Cursor, count: int) -> list[str]:
    """Return the ids of the next results, read a few at a time as they come."""
    woken, ids = threading.Event(), list[str]()
    recent.subscribe(woken.set)
    while len(ids) < count:
        woken.clear()
        results = recent.read(cursor, 7)
        ids += [result.job.id for result in results if result.job]
        cursor = results[-1].cursor if results else cursor
        if not results:
            assert woken.wait(20)
    recent.unsubscribe(woken.set)
    return ids


@pytest.mark.parametrize("kept", [10, 10_000])
def test_readers_see_each_result_once(jobs: JobStore, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Whether it is kept or has to be read from Redis, and though connections are cut."""
    monkeypatch.setattr(recent_results, "MAX_KEPT", kept)
    recent, begin = recent_of(jobs), Cursor(jobs.now_ms() - HOUR_MS)
    ids = settle(jobs, accept(jobs, 30))
    new = accept(jobs, 600)
    seen: list[list[str]] = []
    readers = [threading.Thread(target=lambda: seen.append(read_on(recent, begin, 630))) for _ in range(3)]
    for reader in readers:
        reader.start()
    for at in range(0, 600, 3):
        if at == 300:
            jobs.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
        settle(jobs, new[at : at + 3])
    for reader in readers:
        reader.join(60)
    assert seen == [[*ids, *new]] * 3


def test_nothing_is_kept_without_readers(jobs: JobStore) -> None:
    """Nor before what is kept; reading from Redis says if something is missing."""
    recent, woken = recent_of(jobs), threading.Event()
    settle(jobs, accept(jobs, 1))
    begin = Cursor(jobs.now_ms() - HOUR_MS)
    assert recent.kept(recent.feed.end(), 1) is None
    recent.subscribe(woken.set)
    assert woken.wait(20)
    end = recent.feed.end()
    assert (recent.kept(end, 1), recent.kept(begin, 1)) == ([], None)
    ids = settle(jobs, accept(jobs, 2))
    wait_until(lambda: len(recent.kept(end, 5) or []) == 2, "the results")
    (first, _) = recent.kept(end, 5) or []
    assert (first.job and first.job.id) == ids[0]
    assert recent.read(end, 5)[0] is first
    with pytest.raises(CursorExpiredError):
        recent.read(Cursor(jobs.now_ms() - 169 * HOUR_MS), 1)
    recent.unsubscribe(woken.set)
    wait_until(lambda: recent.kept(end, 1) is None, "the end")
