"""A full queue, places in it and cancelled jobs, on a real Redis and a real S3 server."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from core.ids import new_job_id
from core.jobs import TOO_OLD, Job, JobState, Outcome, Prediction
from core.messages import QUEUES
from core.redis import keys
from core.redis.job_store import JobStore
from core.redis.pending import PendingJobs
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.servers import Server
from tests.support.stream import assert_balanced, stored_objects, upload, upload_bulk

MAX_QUEUED = 64
MAX_BULK = 58
GOOD = Prediction("biodegradable", 0.9, review=False)


@pytest.fixture
def narrow(settings: Settings) -> FlaskClient:
    """The API with room for 64 jobs."""
    return create_app(settings.model_copy(update={"max_queued": MAX_QUEUED})).test_client()


def _post(client: FlaskClient, count: int = 1, key: str | None = None) -> TestResponse:
    named = {"Idempotency-Key": key} if key else {}
    if count == 1:
        return post_image(client, **named)
    parts = [(io.BytesIO(jpeg()), "a.jpg", "image/jpeg") for _ in range(count)]
    return client.post("/v1/images/bulk", data={"i": parts}, headers=named)


def _fill(client: FlaskClient, jobs: JobStore, count: int) -> None:
    """Let so many jobs wait; the last tenth of the places is for single uploads."""
    upload_bulk(client, min(count, MAX_BULK) - jobs.pending())
    for _ in range(count - jobs.pending()):
        upload(client)


def _messages(jobs: JobStore) -> int:
    return sum(jobs.client.llen(queue) for queue in QUEUES.values())


@pytest.mark.parametrize("key", [None, "k"])
@pytest.mark.parametrize("count", [1, 5])
def test_a_full_queue_takes_nothing_more(
    narrow: FlaskClient, jobs: JobStore, s3_server: Server, count: int, key: str | None
) -> None:
    """429 with the time to come back; no record, no message, no count, and no image left in storage."""
    bound = MAX_QUEUED if count == 1 else MAX_BULK
    _fill(narrow, jobs, bound - count + 1)
    stored, messages = stored_objects(s3_server), _messages(jobs)
    for _ in range(2):  # the second is rejected by the API process itself, or by its look before storing
        response = _post(narrow, count, key)
        assert response.status_code == 429
        assert int(response.headers["Retry-After"]) >= 1
        detail = response.get_json(force=True)["detail"]
        assert f"{bound - count + 1} images wait, and " in detail
        assert f"uploads are taken up to {bound}." in detail
        assert f"again in {response.headers['Retry-After']} s" in detail
    assert (stored_objects(s3_server), _messages(jobs), jobs.pending()) == (
        stored,
        messages,
        bound - count + 1,
    )
    assert_balanced(jobs)


def test_bulk_uploads_leave_places_for_single_ones(narrow: FlaskClient, jobs: JobStore) -> None:
    """However many bulk uploads come and are rejected, single images are accepted up to the whole bound."""
    upload_bulk(narrow, MAX_BULK)
    for _ in range(MAX_QUEUED - MAX_BULK):
        assert _post(narrow, 2).status_code == 429
        assert _post(narrow).status_code == 202
    assert _post(narrow).status_code == 429
    assert jobs.pending() == MAX_QUEUED
    assert_balanced(jobs)


def test_what_was_accepted_before_is_answered_though_the_queue_is_full(
    narrow: FlaskClient, jobs: JobStore
) -> None:
    """A client that missed the answer gets it; and once there is room, the rejected key works."""
    first = _post(narrow, key="k").get_json()
    _fill(narrow, jobs, MAX_QUEUED)
    assert _post(narrow, key="other").status_code == 429
    again = _post(narrow, key="k")
    assert (again.status_code, again.get_json()["id"]) == (202, first["id"])
    jobs.settle([Outcome(first["id"], JobState.CLASSIFIED, GOOD)], "m")
    assert _post(narrow, key="other").status_code == 202


def test_cancelling_makes_no_room_for_endless_messages(narrow: FlaskClient, jobs: JobStore) -> None:
    """Messages of withdrawn jobs stay in the queue until a worker meets them, so they count as well."""
    for _ in range(MAX_QUEUED):
        job_id = _post(narrow).get_json()["id"]
        assert narrow.delete(f"/v1/jobs/{job_id}").status_code == 200
    assert (jobs.pending(), _messages(jobs)) == (0, MAX_QUEUED)
    rejected = _post(narrow)
    assert rejected.status_code == 429
    assert (
        f"{MAX_QUEUED} images wait, and single uploads are taken up to {MAX_QUEUED}"
        in rejected.get_json(force=True)["detail"]
    )
    assert _messages(jobs) == MAX_QUEUED
    assert_balanced(jobs)


def test_the_last_place_is_given_once(narrow: FlaskClient, jobs: JobStore) -> None:
    """Thirty-two uploads at once for eight places: eight jobs."""
    _fill(narrow, jobs, MAX_QUEUED - 8)

    def send(number: int) -> int:
        return _post(narrow.application.test_client(), key=f"k{number}").status_code

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(send, range(32)))
    assert sorted(answers) == [202] * 8 + [429] * 24
    assert jobs.pending() == MAX_QUEUED
    assert_balanced(jobs)


def test_the_time_to_come_back_follows_the_service_rate(narrow: FlaskClient, jobs: JobStore) -> None:
    """A queue that works off two jobs a second has room for 20 more in 10 seconds."""
    upload_bulk(narrow, MAX_BULK)
    jobs.client.hset(keys.SERVICE_RATE, mapping={"jobs": 60, "ms": 30_000, "since": jobs.now_ms()})
    assert 9 <= int(_post(narrow, 20).headers["Retry-After"]) <= 12


def test_places_are_told_and_move_up(client: FlaskClient, jobs: JobStore) -> None:
    """Uploads and queued jobs tell how many are before them and when they settle; settled ones do not."""
    headers = {"Content-Type": "image/jpeg"}
    first, second = (client.post("/v1/images", data=jpeg(), headers=headers).get_json() for _ in range(2))
    assert [job["queue"] for job in (first, second)] == [
        {"ahead": 0, "eta_seconds": None},
        {"ahead": 1, "eta_seconds": None},
    ]
    jobs.settle([Outcome(first["id"], JobState.CLASSIFIED, GOOD)], "m")
    place = client.get(f"/v1/jobs/{second['id']}").get_json()["queue"]
    assert place["ahead"] == 0
    assert place["eta_seconds"] > 0
    assert client.get(f"/v1/jobs/{first['id']}").get_json()["queue"] is None


def test_places_of_a_bulk_upload_are_in_its_order(client: FlaskClient) -> None:
    """The first file is served first, and single images stand in another queue."""
    upload(client)
    ids = upload_bulk(client, 32)
    places = [client.get(f"/v1/jobs/{job_id}").get_json()["queue"]["ahead"] for job_id in ids]
    assert places == list(range(32))


def test_a_clock_set_back_does_not_reorder_the_queue(client: FlaskClient, jobs: JobStore) -> None:
    """Jobs accepted later stay later, though Redis' clock now shows an earlier time."""
    first = upload(client)
    ahead = jobs.now_ms() + 3_600_000  # as if the clock had been set back by an hour since
    jobs.client.zadd("ws:pending:single", {first: ahead})
    jobs.client.hset(keys.SERVICE_RATE, "last", str(ahead))
    ids = [first, *(upload(client) for _ in range(3))]
    assert [client.get(f"/v1/jobs/{job_id}").get_json()["queue"]["ahead"] for job_id in ids] == [0, 1, 2, 3]


def test_a_queued_job_is_cancelled(client: FlaskClient, jobs: JobStore) -> None:
    """200 with the job, and again; it counts once, as cancelled, and keeps its image."""
    job_id = upload(client)
    for _ in range(2):
        response = client.delete(f"/v1/jobs/{job_id}")
        assert response.status_code == 200
        assert response.get_json()["state"] == "cancelled"
        assert response.get_json()["settled_at"]
    assert client.get(f"/v1/jobs/{job_id}/image").status_code == 200
    (row,) = client.get("/v1/ledger").get_json()["rows"]
    assert (row["received"], row["cancelled"], row["pending"]) == (1, 1, 0)
    assert_balanced(jobs)


def test_what_has_settled_cannot_be_cancelled(client: FlaskClient, jobs: JobStore) -> None:
    """409 with its state; 404 for an unknown job."""
    job_id = upload(client)
    jobs.settle([Outcome(job_id, JobState.CLASSIFIED, GOOD)], "m")
    rejected = client.delete(f"/v1/jobs/{job_id}")
    assert rejected.status_code == 409
    assert "is classified already" in rejected.get_json(force=True)["detail"]
    assert client.get(f"/v1/jobs/{job_id}").get_json()["state"] == "classified"
    assert client.delete(f"/v1/jobs/{new_job_id()}").status_code == 404
    assert client.delete("/v1/jobs/nonsense").status_code == 404


@pytest.mark.parametrize("max_age", ["0", "-1", "soon", "nan", "inf", "604801", ""])
def test_an_impossible_max_age_is_rejected(client: FlaskClient, max_age: str) -> None:
    """Seconds, above 0 and up to a week."""
    headers = {"Content-Type": "image/jpeg", "X-Max-Age": max_age}
    response = client.post("/v1/images", data=jpeg(), headers=headers)
    assert response.status_code == 400
    assert "X-Max-Age" in response.get_json(force=True)["detail"]


def test_age_counts_from_the_capture(client: FlaskClient, jobs: JobStore) -> None:
    """From `X-Captured-At` if the camera said it, else from acceptance."""
    headers = {"Content-Type": "image/jpeg", "X-Max-Age": "2.5"}
    captured = {**headers, "X-Captured-At": "2026-01-31T08:00:00Z"}
    job = client.post("/v1/images", data=jpeg(), headers=captured).get_json()
    assert job["expires_at"] == "2026-01-31T08:00:02.500Z"
    job = client.post("/v1/images", data=jpeg(), headers=headers).get_json()
    record = jobs.read(job["id"])
    assert record is not None
    assert record.expires_ms is not None
    assert abs(record.expires_ms - jobs.now_ms() - 2_500) < 2_500
    (message, _) = jobs.client.lrange(QUEUES["single"], 0, -1)
    assert json.loads(message)["headers"]["id"] == job["id"]


def test_a_result_that_comes_too_late_is_no_result(jobs: JobStore) -> None:
    """Classified after its time, it settles `expired`, with the reason and without a prediction."""
    late, early = (Job(new_job_id(), "belt", "jpeg", 1, expires_ms=ms) for ms in (1, 2**52))
    jobs.accept([late, early], "single", "test.queue", ["message"])
    outcomes = [Outcome(job.id, JobState.CLASSIFIED, GOOD) for job in (late, early)]
    assert jobs.settle(outcomes, "m") == [JobState.EXPIRED, JobState.CLASSIFIED]
    record = jobs.read(late.id)
    assert record is not None
    assert (record.prediction, record.error) == (None, TOO_OLD)
    assert_balanced(jobs)


def test_a_settled_job_no_longer_expires(jobs: JobStore) -> None:
    """Nothing of it is left among those that become too old."""
    new = Job(new_job_id(), "belt", "jpeg", 1, expires_ms=1)
    jobs.accept([new], "single", "test.queue", ["message"])
    pending = PendingJobs(jobs.client)
    assert pending.expired_before(2, 10) == [new.id]
    jobs.settle([Outcome(new.id, JobState.EXPIRED, error="x")], "m")
    assert pending.expired_before(2, 10) == []
    assert_balanced(jobs)


def test_made_up_cameras_do_not_fill_the_ledger(
    settings: Settings, jobs: JobStore, s3_server: Server
) -> None:
    """Beyond the bound an upload with a new camera is rejected; known cameras continue."""
    client = create_app(settings.model_copy(update={"max_cameras": 2})).test_client()

    def send(camera: str, count: int = 1) -> TestResponse:
        headers = {"X-Camera-Id": camera}
        if count == 1:
            return post_image(client, **headers)
        parts = [(io.BytesIO(jpeg()), "a.jpg", "image/jpeg") for _ in range(count)]
        return client.post("/v1/images/bulk", data={"i": parts}, headers=headers)

    assert [send("a").status_code, send("b", 3).status_code] == [202, 202]
    stored = stored_objects(s3_server)
    for count in (1, 3):
        rejected = send("c", count)
        assert rejected.status_code == 422
        assert "there are 2 already" in rejected.get_json(force=True)["detail"]
    assert stored_objects(s3_server) == stored
    assert send("a", 3).status_code == 202
    assert jobs.client.zrange("ws:cameras", 0, -1) == ["a", "b"]
    assert_balanced(jobs)
