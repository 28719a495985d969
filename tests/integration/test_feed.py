"""The feed of settled jobs, on a real Redis: each job once, in order, for as long as results are kept."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.redis import keys
from core.redis.feed import Cursor, Feed, Settled
from core.redis.job_store import JobStore
from tests.support.cuts import lose_answer
from tests.support.servers import wait_until

QUEUE = "test.queue"
GOOD = Prediction("biodegradable", 0.9, review=False)
HOUR_MS = 3_600_000


def accept(jobs: JobStore, count: int, camera: str = "belt", expires_ms: int | None = None) -> list[str]:
    """Return the ids of new jobs."""
    new = [Job(new_job_id(), camera, "jpeg", 100, expires_ms=expires_ms) for _ in range(count)]
    return jobs.accept(new, "single", QUEUE, ["message"] * count).ids


def settle(jobs: JobStore, ids: list[str], state: JobState = JobState.CLASSIFIED) -> list[str]:
    """Settle jobs in one call; return their ids."""
    good = state is JobState.CLASSIFIED
    jobs.settle([Outcome(i, state, GOOD if good else None, None if good else "x") for i in ids], "m")
    return ids


def read_all(client: FlaskClient, query: str = "", after: str | None = None) -> list[dict[str, Any]]:
    """Return all results of a query, page by page, and check that pages have an end."""
    results = []
    while True:
        page = client.get(
            f"/v1/results?{query}{f'&after={after}' if after else ''}".replace("?&", "?")
        ).get_json()
        results += page["results"]
        assert page["end"] or page["next"] != after
        if page["end"]:
            return results
        after = page["next"]


def ids_of(results: list[dict[str, Any]]) -> list[str]:
    """Return the ids of results."""
    return [job["id"] for job in results]


def test_every_settled_job_is_in_the_feed_once_in_order(client: FlaskClient, jobs: JobStore) -> None:
    """Classified, failed, cancelled and expired; whatever the pages' size, and though calls are repeated."""
    ids = accept(jobs, 7)
    waiting = accept(jobs, 1)
    old = accept(jobs, 1, expires_ms=1000)
    settle(jobs, ids[2:5])
    with lose_answer(lambda answer: isinstance(answer, list) and answer[-1] == "failed") as lost:
        settle(jobs, ids[:1], JobState.FAILED)
    assert lost  # The call reached Redis and was repeated.
    settle(jobs, ids[:5])
    assert jobs.cancel(ids[6]) is JobState.CANCELLED
    jobs.cancel(ids[6])
    settle(jobs, old)
    settle(jobs, ids[5:6])
    order = [*ids[2:5], ids[0], ids[1], ids[6], *old, ids[5]]
    for limit in (1, 2, 3, 1000):
        assert ids_of(read_all(client, f"limit={limit}")) == order
    results = read_all(client)
    assert [job["state"] for job in results] == [
        *["classified"] * 3,
        "failed",
        "classified",
        "cancelled",
        "expired",
        "classified",
    ]
    assert client.get(f"/v1/jobs/{waiting[0]}").get_json()["state"] == "queued"


def test_a_reader_goes_on_where_it_stopped(client: FlaskClient, jobs: JobStore) -> None:
    """Within the jobs of one call, at the end, and after more have settled."""
    first = settle(jobs, accept(jobs, 5))
    page = client.get("/v1/results?limit=3").get_json()
    assert (ids_of(page["results"]), page["end"]) == (first[:3], False)
    page = client.get(f"/v1/results?after={page['next']}").get_json()
    assert ids_of(page["results"]) == first[3:]
    empty = client.get(f"/v1/results?after={page['next']}").get_json()
    assert empty == {"results": [], "next": page["next"], "end": True}
    second = settle(jobs, accept(jobs, 2))
    assert ids_of(read_all(client, after=empty["next"])) == second


def test_results_of_a_camera_and_a_state(client: FlaskClient, jobs: JobStore) -> None:
    """Filters leave out the others, and pages stay bounded."""
    belt, line = accept(jobs, 30), accept(jobs, 3, "line 2")
    settle(jobs, [*belt[:20], *line[:2]])
    settle(jobs, [line[2]], JobState.FAILED)
    settle(jobs, belt[20:], JobState.FAILED)
    assert ids_of(read_all(client, "camera=line%202&limit=2")) == line
    assert ids_of(read_all(client, "camera=line%202&state=failed")) == line[2:]
    for states in ("state=failed,expired", "state=failed&state=expired"):
        assert ids_of(read_all(client, f"{states}&limit=1")) == [line[2], *belt[20:]]
    assert read_all(client, "camera=nobody") == []
    assert ids_of(read_all(client, "camera=line%202&camera=belt&state=failed")) == [line[2], *belt[20:]]


def test_results_from_a_time_on(client: FlaskClient, jobs: JobStore) -> None:
    """By the time of settling."""
    settle(jobs, accept(jobs, 2))
    time.sleep(0.01)
    late = settle(jobs, accept(jobs, 2))
    job = jobs.read(late[0])
    assert job is not None
    assert job.settled_ms is not None
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(job.settled_ms // 1000))
    query = f"from={moment}.{job.settled_ms % 1000:03}Z"
    assert ids_of(read_all(client, query)) == late
    assert read_all(client, "from=2100-01-01") == []


def test_a_waiting_reader_gets_the_next_result(client: FlaskClient, jobs: JobStore) -> None:
    """As soon as a job settles that its filter leaves."""
    other, wanted = accept(jobs, 1), accept(jobs, 1, "line-2")
    answers: list[dict[str, Any]] = []
    waiting = threading.Thread(
        target=lambda: answers.append(client.get("/v1/results?camera=line-2&wait=30").get_json())
    )
    began = time.monotonic()
    waiting.start()
    settle(jobs, other)
    settle(jobs, wanted)
    waiting.join(25)
    assert time.monotonic() - began < 20
    assert ids_of(answers[0]["results"]) == wanted
    assert client.get(f"/v1/results?after={answers[0]['next']}&wait=0.05").get_json()["results"] == []


def test_a_cursor_older_than_what_is_kept_is_told_so(client: FlaskClient, jobs: JobStore) -> None:
    """410 with where to go on. While its reader asks now and then, a cursor stays good."""
    kept = settle(jobs, accept(jobs, 2))
    old = Cursor(jobs.now_ms() - 169 * HOUR_MS)
    gone = client.get(f"/v1/results?after={old}")
    problem = gone.get_json(force=True)
    assert (gone.status_code, problem["type"]) == (410, "/problems/cursor-expired")
    assert ids_of(read_all(client, after=problem["oldest"])) == kept
    jobs.client.delete(keys.FEED)
    next_cursor = client.get(f"/v1/results?after={problem['oldest']}").get_json()["next"]
    assert int(next_cursor.split("-")[0]) > jobs.now_ms() - 100 * HOUR_MS


def test_a_record_that_has_expired_is_told(client: FlaskClient, jobs: JobStore) -> None:
    """Though its entry is left: what is before it comes first, then 410 with where to go on."""
    ids = [job_id for _ in range(5) for job_id in settle(jobs, accept(jobs, 1))]
    begin = Cursor(jobs.now_ms() - HOUR_MS)
    for expired in ids[1:3]:
        jobs.client.delete(keys.job(expired))
    page = client.get(f"/v1/results?after={begin}").get_json()
    assert (ids_of(page["results"]), page["end"]) == (ids[:1], False)
    gone = client.get(f"/v1/results?camera=other&after={page['next']}")
    assert gone.status_code == 410
    assert ids_of(read_all(client, after=gone.get_json(force=True)["oldest"])) == ids[3:]


@pytest.mark.parametrize("path", ["results", "events"])
def test_what_expires_while_it_is_read_is_told(
    client: FlaskClient, jobs: JobStore, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """As if it had expired before."""
    settle(jobs, accept(jobs, 1))
    read = Feed.read

    def read_slowly(feed: Feed, cursor: Cursor, limit: int) -> list[Settled]:
        monkeypatch.setattr(feed, "_retention_ms", HOUR_MS // 2)
        return read(feed, cursor, limit)

    monkeypatch.setattr(Feed, "read", read_slowly)
    response = client.get(f"/v1/{path}?after={jobs.now_ms() - HOUR_MS}-0-0")
    assert response.status_code == 410


def test_waiting_readers_share_what_settles(client: FlaskClient, jobs: JobStore) -> None:
    """Redis is not asked by each of them for each job that settles."""

    def reads() -> int:
        return int(jobs.client.info("commandstats").get("cmdstat_xrange", {"calls": 0})["calls"])

    settle(jobs, accept(jobs, 1))
    readers, pages = [client.application.test_client() for _ in range(6)], list[dict[str, Any]]()
    before = reads()
    threads = [
        threading.Thread(
            target=lambda reader=reader: pages.append(
                reader.get("/v1/results?camera=quiet&wait=30").get_json()
            )
        )
        for reader in readers
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: reads() - before >= len(readers), "the readers")
    for _ in range(40):
        settle(jobs, accept(jobs, 1))
        time.sleep(0.06)  # so that each is news to readers that gather
    ids = settle(jobs, accept(jobs, 1, "quiet"))
    for thread in threads:
        thread.join(25)
    assert [ids_of(page["results"]) for page in pages] == [ids] * len(readers)
    assert reads() - before < 10 * len(readers)


def test_entries_leave_with_the_records(client: FlaskClient, jobs: JobStore) -> None:
    """Not before, though a worker keeps results for less time; a reader of what is gone is told so."""
    brief = JobStore(jobs.client, retention_hours=1)
    first = accept(jobs, 130)
    gone = [job_id for number in range(120) for job_id in settle(brief, first[number : number + 1])]
    kept = [*settle(jobs, first[120:121]), *settle(brief, first[121:])]
    begin = Cursor(jobs.now_ms() - HOUR_MS)
    after = client.get(f"/v1/results?after={begin}&limit=120").get_json()["next"]
    feed = Feed(jobs.client)
    assert feed.forget() == 0
    jobs.client.delete(*map(keys.job, [*gone, *kept[1:]]))
    assert feed.forget() == 120
    assert [settled.job_id for settled in feed.read(Cursor(0), 1000)] == kept
    assert client.get(f"/v1/results?after={begin}").status_code == 410
    assert ids_of(client.get(f"/v1/results?after={after}").get_json()["results"]) == kept[:1]
    jobs.client.delete(keys.job(kept[0]))
    assert (feed.forget(), jobs.client.xlen(keys.FEED)) == (2, 0)
    assert client.get("/v1/results").get_json()["results"] == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("after=yesterday", "'yesterday' is not a cursor"),
        ("after=1-2", "is not a cursor"),
        ("after=1-2-3&from=2026-01-31", "not both"),
        ("from=soon", "is not a date"),
        ("state=failed&state=queued", "has 'queued', which is not a terminal state; use classified, failed"),
        ("camera=../x", "cannot be a camera's id"),
        ("limit=0", "limit='0'"),
        ("limit=1001", "limit='1001'"),
        ("wait=31", "from 0 to 30"),
        ("since=1", "'since' is not a parameter"),
    ],
)
def test_wrong_queries_are_named(client: FlaskClient, query: str, says: str) -> None:
    """400 with a sentence."""
    response = client.get(f"/v1/results?{query}")
    assert response.status_code == 400
    assert says in response.get_json(force=True)["detail"]


def test_a_lone_reader_sees_what_others_settle_meanwhile(jobs: JobStore) -> None:
    """However settling and reading interleave, nothing is missed or read twice."""
    ids = accept(jobs, 400)
    feed, seen = Feed(jobs.client), list[str]()
    settler = threading.Thread(target=lambda: [settle(jobs, ids[at : at + 3]) for at in range(0, 400, 3)])
    settler.start()
    cursor = feed.window().oldest
    while len(seen) < len(ids):
        for settled in feed.read(cursor, 7):
            seen.append(settled.job_id)
            cursor = settled.cursor
    settler.join()
    assert seen == ids
