"""The ledger and the metrics through the API, on a real Redis: they add up, and say so when they do not."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families  # it comes with Flower
from ulid import ULID

from core.jobs import Job, JobState, Outcome, Prediction
from core.redis.admission import Idempotency
from core.redis.camera_reports import SAMPLED
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.redis.workers import Running, WorkerRegistry, reported

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = Prediction("biodegradable", 0.9, review=False)


def _accept(jobs: JobStore, when: datetime, camera: str = "belt", key: str | None = None) -> str:
    new = Job(str(ULID.from_datetime(when)), camera, "jpeg", 1)
    idempotency = Idempotency(key, "d") if key else None
    return jobs.accept([new], "single", "test.queue", ["message"], idempotency).ids[0]


@pytest.fixture
def told(jobs: JobStore) -> None:
    """Four jobs of one belt in two hours, in three states, and one of another belt, sent twice."""
    ids = [_accept(jobs, NOON + timedelta(minutes=20 * number)) for number in range(4)]
    jobs.settle(
        [Outcome(ids[0], JobState.CLASSIFIED, GOOD), Outcome(ids[1], JobState.FAILED, error="x")], "m"
    )
    jobs.cancel(ids[3])
    for _ in range(2):
        _accept(jobs, NOON, "other", key="k")


def _ledger(client: FlaskClient, query: str = "from=2026-03-01&to=2026-03-02") -> dict[str, Any]:
    response = client.get(f"/v1/ledger?{query}")
    assert response.status_code == 200, response.get_data(as_text=True)
    return dict(response.get_json())


@pytest.mark.usefixtures("told")
def test_rows_add_up_to_the_sum_and_to_what_is_there(client: FlaskClient) -> None:
    """Every camera and hour has its row; the sum is theirs; pending counts the waiting jobs."""
    ledger = _ledger(client)
    rows = {(row["camera"], row["hour"][11:13]): row for row in ledger["rows"]}
    assert list(rows) == [("belt", "12"), ("other", "12"), ("belt", "13")]
    assert rows["belt", "12"] == {
        "camera": "belt",
        "hour": "2026-03-01T12:00:00.000Z",
        "received": 3,
        "classified": 1,
        "failed": 1,
        "expired": 0,
        "cancelled": 0,
        "pending": 1,
        "duplicates": 0,
        "recovered": 0,
        "balanced": True,
        "gateway": None,
    }
    assert rows["belt", "13"]["cancelled"] == 1
    assert rows["other", "12"]["duplicates"] == 1
    expected = {"received": 5, "classified": 1, "failed": 1, "expired": 0, "cancelled": 1, "pending": 2}
    assert ledger["sum"] == {**expected, "duplicates": 1, "recovered": 0, "gateway": None}
    assert ledger["system"] == {**expected, "duplicates": 1, "recovered": 0}
    assert ledger["balanced"] is True


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    ("query", "received"),
    [
        ("camera=belt&from=2026-03-01&to=2026-03-02", [3, 1]),
        ("camera=elt&from=2026-03-01&to=2026-03-02", []),
        ("from=2026-03-01T12:00:00Z&to=2026-03-01T13:00:00Z", [3, 1]),
        ("from=2026-03-01T13:30:00Z&to=2026-03-01T13:31:00Z", [1]),
        ("from=2026-03-01T14:00:00%2B01:00&to=2026-03-02", [1]),
        ("from=2026-03-01T14:00:00+01:00&to=2026-03-02", [1]),
        ("to=2026-03-01T13:00:00Z", [3, 1]),
        ("from=2026-03-02&to=2026-03-03", []),
        ("", []),
    ],
)
def test_a_query_narrows_the_rows(client: FlaskClient, query: str, received: list[int]) -> None:
    """By camera and by hour; without an end, the last day."""
    ledger = _ledger(client, query)
    assert [row["received"] for row in ledger["rows"]] == received
    assert ledger["sum"]["received"] == sum(received)
    assert ledger["balanced"]


def test_one_cameras_rows_are_read_without_the_others(jobs: JobStore) -> None:
    """The calls to Redis do not grow with other cameras; ends, gaps and bounds are respected."""
    other = {
        f"{(NOON + timedelta(hours=hour)):%Y%m%d%H}:other-{number}"
        for hour in range(24)
        for number in range(99)
    }
    ours = [f"{(NOON + timedelta(hours=hour)):%Y%m%d%H}:belt" for hour in (0, 1, 5, 11, 30)]
    jobs.client.zadd("ws:ledgers", {name: int(name.partition(":")[0]) for name in [*other, *ours]})
    ledger = Ledger(jobs.client)
    before = jobs.client.info("stats")["total_net_output_bytes"]
    assert ledger.names("-inf", "+inf", ["belt"], max_rows=10) == ours
    assert jobs.client.info("stats")["total_net_output_bytes"] - before < 10_000
    assert ledger.names("2026030113", "2026030123", ["belt"], max_rows=10) == ours[1:4]
    assert ledger.names("2026030113", "2026030123", ["belt"], max_rows=2) == ours[1:3]
    assert ledger.names("2026030218", "2026030218", ["belt"], max_rows=1) == ours[4:]
    assert ledger.names("1970010100", "2026030111", ["belt"], max_rows=1) == []
    both = ledger.names("-inf", "+inf", ["other-1", "belt"], max_rows=100)
    assert both == sorted({name for name in other if name.endswith(":other-1")} | {*ours})


def test_a_cameras_rows_may_lie_far_apart(jobs: JobStore) -> None:
    """Thousands of hours without one are asked for in pieces."""
    names = [f"{2026 + year}030112:belt" for year in (0, 5)]
    jobs.client.zadd("ws:ledgers", {name: int(name.partition(":")[0]) for name in names})
    assert Ledger(jobs.client).names("-inf", "+inf", ["belt"], max_rows=10) == names


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("camera=../etc", "cannot be a camera's id"),
        ("camera=", "cannot be a camera's id"),
        ("from=yesterday", "from='yesterday' is not a date"),
        ("to=2026-03-01T12:00:00", "to='2026-03-01T12:00:00' is not a date"),
        ("from=0001-01-01T00:00:00%2B14:00", "is not a date"),
        ("to=9999-12-31", "is not a date"),
        ("from=2026-03-02&to=2026-03-01", "is not before"),
        ("from=2026-03-01&to=2026-03-01", "is not before"),
        ("format=xml", "should be 'json' or 'csv'"),
        ("kamera=belt", "'kamera' is not a parameter"),
    ],
)
def test_queries_that_cannot_be_answered_are_rejected(client: FlaskClient, query: str, says: str) -> None:
    """400 with a sentence."""
    response = client.get(f"/v1/ledger?{query}")
    assert response.status_code == 400
    assert says in response.get_json(force=True)["detail"]


@pytest.mark.usefixtures("told")
def test_more_rows_than_one_answer_holds_are_rejected(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is cut off in silence."""
    monkeypatch.setattr("api.routes.ledger.MAX_ROWS", 2)
    response = client.get("/v1/ledger?from=2026-03-01&to=2026-03-02")
    assert response.status_code == 400
    assert "more than 2 rows" in response.get_json(force=True)["detail"]
    assert len(_ledger(client, "camera=belt&from=2026-03-01&to=2026-03-02")["rows"]) == 2


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(("query", "accept"), [("&format=csv", "*/*"), ("", "text/csv")])
def test_spreadsheets_get_csv(client: FlaskClient, query: str, accept: str) -> None:
    """The same rows, by parameter or by header."""
    path = f"/v1/ledger?from=2026-03-01&to=2026-03-02{query}"
    response = client.get(path, headers={"Accept": accept})
    assert response.content_type == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(response.get_data(as_text=True))))
    without = dict.fromkeys((f"gateway_{name}" for name in SAMPLED), "")
    shown = [
        {**{name: str(value) for name, value in row.items() if name != "gateway"}, **without}
        for row in _ledger(client)["rows"]
    ]
    assert [{**row, "balanced": row["balanced"].title()} for row in rows] == shown


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize(
    "damage",
    [
        lambda redis: redis.zpopmin("ws:pending:single"),
        lambda redis: redis.hincrby("ws:ledger:2026030112:belt", "classified", 1),
        lambda redis: redis.hincrby("ws:totals:other", "received", -1),
        lambda redis: redis.zadd("ws:pending:bulk", {"somebody": 1}),
    ],
)
def test_a_ledger_with_a_wrong_counter_is_not_balanced(
    client: FlaskClient, jobs: JobStore, damage: Any
) -> None:
    """A job that vanished, one counted twice, one never received, one that nobody counted: each shows."""
    damage(jobs.client)
    assert _ledger(client)["balanced"] is False


@pytest.mark.usefixtures("told")
def test_prometheus_reads_the_same_numbers(client: FlaskClient, jobs: JobStore) -> None:
    """The page parses, and every sample agrees with the ledger."""
    WorkerRegistry(jobs.client).seen("a@host", reported(Running("int8", "2026.01.31+4567")))
    response = client.get("/metrics")
    assert response.content_type.startswith("text/plain; version=0.0.4")
    families = text_string_to_metric_families(response.get_data(as_text=True))
    values = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in families
        for sample in family.samples
    }
    assert values["wastestream_images_received_total", "belt"] == 4
    assert values["wastestream_images_settled_total", "belt", "cancelled"] == 1
    assert values["wastestream_images_settled_total", "belt", "expired"] == 0
    assert values["wastestream_images_duplicate_total", "other"] == 1
    assert values["wastestream_images_pending", "other"] == 1
    assert values["wastestream_queue_depth", "single"] == 2
    assert values["wastestream_queue_depth", "bulk"] == 0
    assert values["wastestream_queue_limit",] == 200_000
    assert values["wastestream_workers",] == 1
    assert values["wastestream_workers_running", "2026.01.31+4567", "int8"] == 1
    assert values["wastestream_ledger_balanced",] == 1


def _pending(client: FlaskClient, camera: str) -> float:
    start = f'wastestream_images_pending{{camera="{camera}"}} '
    (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(start)]
    return float(line.removeprefix(start))


@pytest.mark.usefixtures("told")
def test_prometheus_sees_a_ledger_that_is_not_balanced(client: FlaskClient, jobs: JobStore) -> None:
    """The pending images are those of the rows, not a difference of other counters."""
    assert (_pending(client, "belt"), _pending(client, "other")) == (1, 1)
    jobs.client.hincrby("ws:ledger:2026030112:belt", "pending", 2)
    assert _pending(client, "belt") == 3
    jobs.client.hincrby("ws:totals:other", "received", 5)
    assert _pending(client, "other") == 1
    now = _accept(jobs, datetime.now(UTC), "today")
    jobs.settle([Outcome(now, JobState.FAILED, error="x")], "m")
    assert _pending(client, "today") == 0


def test_large_counters_are_written_in_full(client: FlaskClient, jobs: JobStore) -> None:
    """No digit is rounded away."""
    _accept(jobs, NOON)
    jobs.client.hset("ws:totals:belt", "received", 123_456_789)
    assert 'wastestream_images_received_total{camera="belt"} 123456789\n' in client.get("/metrics").text


def test_old_rows_are_forgotten_unless_they_owe_something(client: FlaskClient, jobs: JobStore) -> None:
    """A row stays while a job of it is pending; the rest stays balanced."""
    settled, waiting = _accept(jobs, NOON, "a"), _accept(jobs, NOON, "b")
    _accept(jobs, NOON + timedelta(hours=1), "c")
    jobs.settle([Outcome(settled, JobState.CLASSIFIED, GOOD)], "m")
    ledger = Ledger(jobs.client)
    assert ledger.forget("2026030113") == 2  # a's row and a's totals
    assert [row["camera"] for row in _ledger(client)["rows"]] == ["b", "c"]
    jobs.settle([Outcome(waiting, JobState.CLASSIFIED, GOOD)], "m")
    assert _ledger(client)["balanced"]
    assert ledger.forget("2026030113") == 2
    assert [row["camera"] for row in _ledger(client)["rows"]] == ["c"]
    assert _ledger(client)["balanced"]


def test_rows_that_owe_do_not_keep_the_others(jobs: JobStore) -> None:
    """However many there are before them."""
    names = {f"2026030112:belt-{number:04}": 2026030112 for number in range(2500)}
    jobs.client.zadd("ws:ledgers", names)
    with jobs.client.pipeline() as pipe:
        for number, name in enumerate(names):
            pipe.hset(f"ws:ledger:{name}", mapping={"received": 1, "failed": number % 2400 // 1200})
        pipe.execute()
    ledger = Ledger(jobs.client)
    assert ledger.forget("2026030113") == 1200
    kept = ledger.names("-inf", "+inf", max_rows=3000)
    assert {row.counts.owed for row in ledger.rows(kept)} == {1}
    assert len(kept) == 1300
    assert ledger.forget("2026030113") == 0
