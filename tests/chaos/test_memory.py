"""Redis at `maxmemory`: uploads are rejected whole, and everything that was accepted is worked off."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from redis.client import Pipeline

from core.errors import RedisUnavailableError
from core.jobs import JobState
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.oom import OomTolerantRedis
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.servers import Server, wait_until
from tests.support.stream import (
    BROKEN,
    assert_balanced,
    finish,
    states,
    stored_objects,
    upload,
    upload_bulk,
    wait_settled,
)

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


@pytest.fixture
def fill(jobs: JobStore) -> Iterator[Callable[[], None]]:
    """A function that leaves Redis without memory until the end of the test."""

    def run_out() -> None:
        jobs.client.config_set("maxmemory", "1")

    yield run_out
    jobs.client.config_set("maxmemory", "0")


def test_uploads_are_rejected_whole(
    client: FlaskClient,
    jobs: JobStore,
    s3_server: Server,
    start_worker: StartWorker,
    fill: Callable[[], None],
) -> None:
    """503 with Retry-After; no record, no message, no image left behind; afterwards all is as before."""
    first = upload(client)
    before = stored_objects(s3_server), jobs.client.llen("wastestream.single")
    fill()
    for headers in ({}, {}, {"Idempotency-Key": "k"}):
        response = post_image(client, **headers)
        assert response.status_code == 503
        assert int(response.headers["Retry-After"]) > 0
    assert (stored_objects(s3_server), jobs.client.llen("wastestream.single")) == before
    assert client.get(f"/v1/jobs/{first}").get_json()["state"] == "queued"
    assert client.get("/readyz").status_code == 503
    assert_balanced(jobs)
    jobs.client.config_set("maxmemory", "0")
    response = client.post(
        "/v1/images", data=jpeg(), headers={"Content-Type": "image/jpeg", "Idempotency-Key": "k"}
    )
    assert response.status_code == 202
    start_worker()
    finish(jobs, [first, response.get_json()["id"]])


def test_jobs_are_cancelled(client: FlaskClient, jobs: JobStore, fill: Callable[[], None]) -> None:
    """Commands that free memory are allowed."""
    job_id = upload(client)
    fill()
    assert client.delete(f"/v1/jobs/{job_id}").status_code == 200
    assert jobs.pending() == 0
    assert_balanced(jobs)


def test_a_worker_that_starts_works_the_queue_off(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, fill: Callable[[], None]
) -> None:
    """It joins, takes, settles and acknowledges without a byte to spare."""
    ids, broken = upload_bulk(client, 60), upload(client, BROKEN)
    fill()
    start_worker()
    finish(jobs, ids)
    assert wait_settled(jobs, [broken]) == {"failed": 1}
    assert_balanced(jobs)


def test_a_worker_is_killed(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, fill: Callable[[], None], tmp_path: Path
) -> None:
    """Its messages come back, one that was popped and not recorded too, and another worker finishes."""
    ids = [*upload_bulk(client, 40), *(upload(client) for _ in range(5))]
    fill()
    doomed = start_worker("doomed", module=FAULTY, FAULT="after pop", MARKER=str(tmp_path / "m"))
    assert doomed.process is not None
    assert doomed.process.wait(timeout=30) == -signal.SIGKILL
    second = start_worker("second", module=FAULTY, FAULT="slow", SLOW_SECONDS="1", MARKER=str(tmp_path / "n"))
    wait_until(lambda: states(jobs, ids)["classified"] > 0, "the first batch")
    second.kill()
    start_worker("heir")
    finish(jobs, ids)


def test_memory_runs_out_under_load(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, fill: Callable[[], None], tmp_path: Path
) -> None:
    """A worker in the middle of its work goes on, and returns what it holds when it is told to stop."""
    first = start_worker("first", module=FAULTY, FAULT="slow", SLOW_SECONDS="0.5", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: states(jobs, ids)["classified"] > 0, "the first batch")
    fill()
    assert first.kill(signal.SIGTERM) == 0
    assert jobs.client.hlen("unacked") == 0
    start_worker("second")
    finish(jobs, ids)


def test_the_oom_tolerant_client_does_what_others_are_refused(
    settings: Settings, fill: Callable[[], None]
) -> None:
    """Commands, transactions and scripts pass with the answers that they give otherwise."""
    url = settings.redis_url.get_secret_value()
    plain, tolerant = connect(url), connect(url, kind=OomTolerantRedis)
    script = tolerant.register_script("return redis.call('RPUSH', KEYS[1], 'x')")

    def answers() -> list[object]:
        with tolerant.pipeline() as pipe:
            pipe.zadd("z", {"a": 1.5})
            pipe.hset("h", "f", "v")
            pipe.rpush("l", "y")
            answers: list[object] = pipe.execute()
        answers += [
            tolerant.set("s", "1", nx=True, px=5000),
            tolerant.set("s", "1", nx=True),
            tolerant.get("s"),
        ]
        answers += [tolerant.sadd("e", "m"), script(["l"])]
        tolerant.transaction(transact, "s")
        return [*answers, tolerant.get("s"), tolerant.llen("l")]

    def transact(pipe: Pipeline) -> None:
        pipe.get("s")
        pipe.multi()
        pipe.incr("s")

    usual = answers()
    plain.delete("z", "h", "s", "e", "l")
    fill()
    assert answers() == usual
    with pytest.raises(RedisUnavailableError):
        JobStore(plain).ping()
    JobStore(tolerant).ping()


def test_starts_are_counted(client: FlaskClient, jobs: JobStore, fill: Callable[[], None]) -> None:
    """A job that crashes its worker still ends after the third time."""
    job_id = upload(client)
    fill()
    assert [jobs.begin(job_id), jobs.begin(job_id)] == [1, 2]
    jobs.forgive([job_id])
    assert jobs.begin(job_id) == 2
    assert jobs.cancel(job_id) is JobState.CANCELLED
    assert_balanced(jobs)
