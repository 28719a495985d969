"""Messages delivered twice, late, or over a connection just made again: counted once, served soon."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from core.ids import accepted_ms
from core.messages import QUEUES, Envelope, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.servers import Server, wait_until
from tests.support.stream import assert_balanced, finish, upload, upload_bulk, wait_settled

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


def _runs(file: Path) -> list[str]:
    """Return the id of every job that a batch was begun with, as often as it was."""
    return file.read_text().split() if file.exists() else []


def test_the_same_job_delivered_twice_at_once(
    client: FlaskClient, jobs: JobStore, settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Two workers have it at the same time; both classify it, the ledger counts it once."""
    ids = [upload(client) for _ in range(4)]
    envelope = Envelope(make_app(settings))
    for job in jobs.read_many(ids):
        assert job is not None
        jobs.client.lpush(QUEUES["single"], envelope.message([job.image_key], "single"))
    runs = tmp_path / "runs"
    options = {"FAULT": "slow", "SLOW_SECONDS": "0.5", "MARKER": str(tmp_path / "m"), "RUNS": str(runs)}
    options["WASTESTREAM_MAX_BATCH"] = "2"
    for name in ("one", "two"):
        start_worker(name, module=FAULTY, **options)
    finish(jobs, ids)
    assert len(_runs(runs)) == 8


def test_a_slow_batch_is_not_delivered_again(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A batch that takes longer than the visibility timeout keeps its leases: no job runs twice."""
    runs = tmp_path / "runs"
    options = {"FAULT": "slow", "SLOW_SECONDS": "5", "MARKER": str(tmp_path / "m"), "RUNS": str(runs)}
    ids = upload_bulk(client, 20)
    start_worker("slow", module=FAULTY, VISIBILITY="2", **options)
    wait_until(lambda: len(_runs(runs)) == 20, "the batch to start")
    start_worker("other", module=FAULTY, VISIBILITY="2", **{**options, "SLOW_SECONDS": "0"})
    finish(jobs, ids)
    assert sorted(_runs(runs)) == sorted(ids)


def test_a_worker_that_stops_keeps_the_leases_of_its_last_batch(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Told to stop in the middle of a batch longer than the visibility timeout, it is still the only one."""
    runs = tmp_path / "runs"
    options = {"FAULT": "slow", "SLOW_SECONDS": "5", "MARKER": str(tmp_path / "m"), "RUNS": str(runs)}
    ids = upload_bulk(client, 20)
    first = start_worker("first", module=FAULTY, VISIBILITY="2", **options)
    wait_until(lambda: len(_runs(runs)) == 20, "the batch to start")
    start_worker("second", module=FAULTY, VISIBILITY="2", **{**options, "SLOW_SECONDS": "0"})
    assert first.kill(signal.SIGTERM) == 0
    finish(jobs, ids)
    assert sorted(_runs(runs)) == sorted(ids)


def test_a_frozen_worker_comes_back_after_its_leases_ran_out(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Another worker has done its jobs; its late calls change no count."""
    runs = tmp_path / "runs"
    options = {"FAULT": "slow", "SLOW_SECONDS": "1", "MARKER": str(tmp_path / "m"), "RUNS": str(runs)}
    ids = upload_bulk(client, 40)
    frozen = start_worker("frozen", module=FAULTY, VISIBILITY="2", **options)
    wait_until(lambda: len(_runs(runs)) > 0, "a batch to start")
    assert frozen.process is not None
    everyone = [frozen.process.pid, *frozen.children()]
    for pid in everyone:
        os.kill(pid, signal.SIGSTOP)
    try:
        start_worker("other", module=FAULTY, VISIBILITY="2", **{**options, "SLOW_SECONDS": "0"})
        assert wait_settled(jobs, ids) == {"classified": 40}
    finally:
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
    ids.append(upload(client))
    finish(jobs, ids)
    assert len(_runs(runs)) > len(ids)


def test_a_lone_image_is_served_after_every_reconnect(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker
) -> None:
    """Cut off five times, the worker takes the next image by itself.

    Not by the paths that find lost messages: these need more than 8 seconds.
    """
    start_worker()
    ids = []
    for _ in range(5):
        jobs.client.client_kill_filter(_type="normal", skipme=True)
        ids.append(upload(client))
        wait_settled(jobs, ids, seconds=8)
    finish(jobs, ids)


@pytest.mark.parametrize("way", ["cut", "restart", "pause"])
def test_the_first_image_after_a_reconnect_is_as_quick_as_any(
    client: FlaskClient, jobs: JobStore, redis_server: Server, start_worker: StartWorker, way: str
) -> None:
    """Once the worker listens again nothing waits for a timer: within a factor of 10 of the idle latency."""
    start_worker()

    def milliseconds() -> int:
        job_id = upload(client)
        wait_settled(jobs, [job_id])
        (job,) = jobs.read_many([job_id])
        assert job is not None
        assert job.settled_ms is not None
        return job.settled_ms - accepted_ms(job_id)

    idle = [milliseconds() for _ in range(10)]
    for _ in range(5 if way == "cut" else 2):
        if way == "cut":
            jobs.client.client_kill_filter(_type="normal", skipme=True)
        elif way == "restart":
            redis_server.kill()
            redis_server.start()
        else:
            jobs.client.client_pause(1_000)
        wait_until(lambda: _is_ready(client) and _listening(jobs) == 1, "the worker to listen again")
        assert milliseconds() <= 10 * max(*idle, 20)


def _is_ready(client: FlaskClient) -> bool:
    return client.get("/readyz").status_code == 200


def _listening(jobs: JobStore) -> int:
    """Return how many connections wait for a message."""
    return sum(client["cmd"] == "brpop" and "b" in client["flags"] for client in jobs.client.client_list())


def test_redis_pauses(client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path) -> None:
    """CLIENT PAUSE in the middle of a backlog: everybody waits and goes on."""
    start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    jobs.client.client_pause(2_000)
    ids.append(upload(client))
    finish(jobs, ids)


def test_redis_is_away_for_some_time(
    client: FlaskClient, jobs: JobStore, redis_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Workers try again at least every two seconds, so then everything goes on at once."""
    worker = start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 40)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    redis_server.kill()
    try:
        back = time.monotonic() + 12  # twice as long as pauses that doubled would need to reach four seconds
        while time.monotonic() < back:
            rejected = post_image(client)
            assert rejected.status_code == 503
            assert rejected.headers["Retry-After"]
            time.sleep(1)
    finally:
        redis_server.start()
    assert "2.00 seconds" in worker.log.read_text()
    assert "4.00 seconds" not in worker.log.read_text()
    wait_until(lambda: _is_accepted(client, ids), "the API to accept again")
    finish(jobs, ids)


def _is_accepted(client: FlaskClient, ids: list[str]) -> bool:
    """Upload an image; add its id to the list if it was accepted."""
    response = post_image(client)
    if response.status_code == 202:
        ids.append(response.get_json()["id"])
    return response.status_code == 202


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGTERM, signal.SIGTERM]])
def test_an_idle_worker_is_told_to_stop(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, signals: list[signal.Signals]
) -> None:
    """It ends with exit code 0, and an image that comes afterwards is another's."""
    first = start_worker("first")
    assert first.process is not None
    for number in signals:
        os.kill(first.process.pid, number)
    assert first.process.wait(timeout=30) == 0
    job_id = upload(client)
    start_worker("second")
    finish(jobs, [job_id])
    assert_balanced(jobs)
