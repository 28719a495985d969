"""More than the workers can do, and jobs that need not be done: nothing is lost, nothing counts twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.servers import Server, wait_until
from tests.support.stream import assert_balanced, states, upload, upload_bulk, wait_settled

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


def _looked_at(runs: Path) -> int:
    """Return how many images the worker has looked at."""
    return len(runs.read_text().split()) if runs.exists() else 0


def _upload(client: FlaskClient, **headers: str) -> tuple[int, str]:
    response = post_image(client, **headers)
    return response.status_code, (response.get_json(silent=True) or {}).get("id", "")


def test_overload_is_rejected_and_the_rest_settles(
    settings: Settings, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Uploads come faster than a slow worker settles: many 429, the bound holds, then everything settles."""
    client = create_app(settings.model_copy(update={"max_queued": 64})).test_client()
    start_worker(module=FAULTY, FAULT="slow", SLOW_SECONDS="1", MARKER=str(tmp_path / "m"))
    accepted: list[str] = []
    rejected = maximum = 0
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (rejected == 0 or len(accepted) <= 64):
        status, job_id = _upload(client)
        assert status in {202, 429}
        accepted += [job_id] if status == 202 else []
        rejected += status == 429
        maximum = max(maximum, jobs.pending())
    assert rejected > 0
    assert len(accepted) > 64  # room came back while uploads were rejected
    assert maximum <= 64
    assert wait_settled(jobs, accepted) == {"classified": len(accepted)}
    assert_balanced(jobs)


def test_cancelled_jobs_are_not_worked_on(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker that meets their messages drops them without a look at their images."""
    ids = upload_bulk(client, 40)
    for job_id in ids[::2]:
        client.delete(f"/v1/jobs/{job_id}")
    runs = tmp_path / "runs"
    start_worker(module=FAULTY, FAULT="none", MARKER=str(tmp_path / "m"), RUNS=str(runs))
    assert wait_settled(jobs, ids) == {"classified": 20, "cancelled": 20}
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")
    assert _looked_at(runs) == 20
    assert jobs.client.zcard("ws:withdrawn") == 0
    assert_balanced(jobs)


def test_cancelling_races_with_a_worker(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Each job ends as the answer to its DELETE said: 200 means cancelled, 409 means it had settled."""
    start_worker(module=FAULTY, FAULT="slow", SLOW_SECONDS="0.3", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 96)
    wait_until(lambda: states(jobs, ids)["classified"] > 0, "the first batch")
    answers = {job_id: client.delete(f"/v1/jobs/{job_id}").status_code for job_id in reversed(ids)}
    wait_settled(jobs, ids)
    expected = {200: "cancelled", 409: "classified"}
    records = dict(zip(ids, jobs.read_many(ids), strict=True))
    assert {job_id: job and job.state.value for job_id, job in records.items()} == {
        job_id: expected[status] for job_id, status in answers.items()
    }
    assert set(answers.values()) == {200, 409}
    assert_balanced(jobs)
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")
    wait_until(lambda: jobs.client.zcard("ws:withdrawn") == 0, "every cancelled job to be dropped")


def test_frames_behind_a_backlog_expire_instead_of_being_classified_late(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Their workers settle them `expired` without a look at their images; those without a limit wait."""
    old = [_upload(client, X_Max_Age="0.05")[1] for _ in range(10)]
    patient = [upload(client) for _ in range(5)]
    fresh = [_upload(client, X_Max_Age="600")[1] for _ in range(5)]
    time.sleep(0.1)
    runs = tmp_path / "runs"
    start_worker(module=FAULTY, FAULT="none", MARKER=str(tmp_path / "m"), RUNS=str(runs))
    assert wait_settled(jobs, [*patient, *fresh]) == {"classified": 10}
    assert wait_settled(jobs, old) == {"expired": 10}
    assert _looked_at(runs) == 10
    assert "older than its X-Max-Age" in client.get(f"/v1/jobs/{old[0]}").get_json()["error"]
    assert_balanced(jobs)


def test_jobs_that_no_worker_reaches_expire(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker
) -> None:
    """With storage down no job is classified, but jobs that become too old still expire in time."""
    old = [_upload(client, X_Max_Age="1")[1] for _ in range(3)]
    patient = upload(client)
    s3_server.kill()
    try:
        start_worker()
        assert wait_settled(jobs, old) == {"expired": 3}
        assert states(jobs, [patient]) == {"queued": 1}
    finally:
        s3_server.start()
    assert wait_settled(jobs, [patient]) == {"classified": 1}
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")
    assert_balanced(jobs)


@pytest.mark.parametrize("way", ["cancelled", "expired"])
def test_a_lost_message_of_a_job_that_ended_is_not_sent_again(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, way: str
) -> None:
    """Only pending jobs are recovered."""
    job_id = _upload(client, **({"X_Max_Age": "0.05"} if way == "expired" else {}))[1]
    jobs.client.delete("wastestream.single")
    if way == "cancelled":
        client.delete(f"/v1/jobs/{job_id}")
    worker = start_worker()
    assert wait_settled(jobs, [job_id]) == {way: 1}
    assert wait_settled(jobs, [upload(client)]) == {"classified": 1}
    assert "lost messages" not in worker.log.read_text()
    assert_balanced(jobs)
