"""Paused lanes, on real workers: their jobs wait, are lost by nobody, and go on when they are resumed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient

from api.lanes import lanes as container_lanes
from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome
from core.lanes import LANES
from core.messages import QUEUES, Envelope, make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.oom import OomTolerantRedis
from core.redis.pauses import Pauses
from core.settings import Settings, load_settings
from infra.cli.main import cli
from tests.support.servers import Server, wait_until
from tests.support.stream import assert_balanced, finish, states, upload, upload_bulk, wait_settled
from worker.periodic.recovery import Reconciler

Call = Callable[..., Result]


@pytest.fixture
def pauses(jobs: JobStore) -> Pauses:
    """The pauses, on the real Redis."""
    return Pauses(jobs.client)


@pytest.fixture(params=["./wastestream", "python -m api.lanes"])
def call(settings: Settings, request: pytest.FixtureRequest) -> Call:
    """The commands, on the real Redis, as on a machine and as in a container."""
    runner = CliRunner(env={"WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value()})

    def run(*arguments: str) -> Result:
        load_settings.cache_clear()
        return runner.invoke(container_lanes if request.param == "python -m api.lanes" else cli, arguments)

    return run


def test_a_paused_lane_waits_across_restarts(
    client: FlaskClient,
    jobs: JobStore,
    pauses: Pauses,
    start_worker: Callable[..., Server],
    redis_server: Server,
    tmp_path: Path,
) -> None:
    """Of workers and of Redis; the other lane goes on, and no worker takes itself for stuck."""
    pauses.pause("bulk")
    held = upload_bulk(client, 40)
    worker = start_worker(
        module="tests.support.faulty_worker", FAULT="deaf", MARKER=str(tmp_path), RUNS=str(tmp_path / "runs")
    )  # The folder is there, so it hears, and would take itself for stuck after a second.
    assert wait_settled(jobs, [upload(client) for _ in range(3)]) == {"classified": 3}
    assert client.get(f"/v1/jobs/{held[0]}?wait=3").get_json()["state"] == "queued"
    assert "but this worker has taken none" not in worker.log.read_text()
    redis_server.kill()
    redis_server.start()
    single = upload(client)
    assert wait_settled(jobs, [single]) == {"classified": 1}
    assert worker.process is not None
    worker.kill()
    start_worker("second", module="tests.support.faulty_worker", FAULT="deaf", MARKER=str(tmp_path))
    assert wait_settled(jobs, [last := upload(client)]) == {"classified": 1}
    assert states(jobs, held) == {"queued": len(held)}
    assert jobs.client.llen(QUEUES["bulk"]) == 3  # messages, as they were sent

    assert pauses.resume("bulk")
    assert wait_settled(jobs, [*held, single, last]) == {"classified": len(held) + 2}
    assert_balanced(jobs)


def test_a_lane_is_paused_while_workers_run(
    client: FlaskClient, jobs: JobStore, pauses: Pauses, start_worker: Callable[..., Server]
) -> None:
    """Within two seconds they take no more of it, also of both at once; what they have taken is finished."""
    start_worker()
    first = [upload(client), *upload_bulk(client, 20)]
    finish(jobs, first)
    for lane in LANES:
        pauses.pause(lane)
    wait_until(lambda: _is_left(client, jobs), "the worker to leave both lanes", 10)
    held = [upload(client), *upload_bulk(client, 20)]
    assert client.get(f"/v1/jobs/{held[0]}?wait=2").get_json()["state"] == "queued"
    for lane in LANES:
        pauses.resume(lane)
    everything = jobs.client.zcard("ws:pending:single") + jobs.client.zcard("ws:pending:bulk")
    assert everything >= len(held)
    assert wait_settled(jobs, held) == {"classified": len(held)}
    wait_until(lambda: jobs.pending() == 0, "all jobs to settle")
    assert_balanced(jobs)


def _is_left(client: FlaskClient, jobs: JobStore) -> bool:
    """Return whether a new job of each lane is not taken for a while."""
    ids = [upload(client), *upload_bulk(client, 1)]
    client.get(f"/v1/jobs/{ids[0]}?wait=1")
    return states(jobs, ids) == {"queued": 2}


def test_jobs_of_a_paused_lane_are_not_taken_for_lost(
    settings: Settings, jobs: JobStore, pauses: Pauses
) -> None:
    """Whatever the order of their messages: they are looked for after the lane is resumed."""
    envelope = Envelope(make_app(settings))
    reconciler = Reconciler("leader", jobs, jobs.client, envelope)
    ids = []
    for age in (60_000, 50_000, 40_000):
        job = Job(new_job_id(), "belt", "jpeg", 1)
        jobs.accept([job], "bulk", QUEUES["bulk"], [envelope.message([job.image_key], "bulk")])
        jobs.client.zincrby("ws:pending:bulk", -age, job.id)
        ids.append(job.id)
    # A worker that died held the oldest two; they were returned behind the youngest.
    jobs.client.lpush(QUEUES["bulk"], str(jobs.client.rpop(QUEUES["bulk"])))
    jobs.client.lpush(QUEUES["bulk"], str(jobs.client.rpop(QUEUES["bulk"])))
    pauses.pause("bulk")
    assert [reconciler.run() for _ in range(4)] == [0] * 4
    jobs.client.delete(QUEUES["bulk"])
    assert [reconciler.run() for _ in range(3)] == [0] * 3
    pauses.resume("bulk")
    assert [reconciler.run() for _ in range(3)] == [0, 3, 0]


def test_answers_say_that_a_lane_is_paused(client: FlaskClient, jobs: JobStore, pauses: Pauses) -> None:
    """Its jobs have no time; the other lane's estimate, `/readyz` and the metrics are right."""
    assert client.get("/readyz").get_json()["paused"] == []
    pauses.pause("bulk")
    for number in range(20):  # a job a second, settled at once; the bulk upload below is no work meanwhile
        job_id = upload(client)
        if number == 0:
            held = upload_bulk(client, 2)
        jobs.client.hincrby("ws:service_rate", "since", -1000)
        jobs.settle([Outcome(job_id, JobState.FAILED, error="x")], "m")
        jobs.client.hincrby("ws:service_rate", "since", -60_000)  # nobody sends anything for a minute
    job = client.get(f"/v1/jobs/{held[0]}").get_json()
    assert job["queue"] == {"ahead": 0, "eta_seconds": None}
    answer = client.post("/v1/images", data=b"", headers={}).status_code
    assert answer == 400
    waiting = client.get(f"/v1/jobs/{upload(client)}").get_json()["queue"]
    assert 0.5 < waiting["eta_seconds"] < 2
    metrics = client.get("/metrics").get_data(as_text=True)
    assert 'wastestream_lane_paused{lane="bulk"} 1' in metrics
    assert 'wastestream_lane_paused{lane="single"} 0' in metrics

    def shown() -> bool:
        return bool(client.get("/readyz").get_json()["paused"] == ["bulk"])

    wait_until(shown, "/readyz to look again")
    ready = client.get("/readyz").get_json()
    assert ready["status"] == "ready"
    assert "go on with `wastestream resume bulk`" in ready["warnings"]["paused"]


def test_an_operator_pauses_and_resumes(
    call: Call, client: FlaskClient, jobs: JobStore, pauses: Pauses
) -> None:
    """It is told what waits; once more changes nothing; a lane that is none is named."""
    upload_bulk(client, 3)
    assert call("pause", "bulk").stdout == "Paused bulk jobs; 3 wait. To go on: resume bulk.\n"
    since = pauses.paused()
    assert call("pause", "bulk").stdout.startswith("Paused already: bulk jobs; 3 wait.")
    assert pauses.paused() == since
    assert call("resume", "single").stdout == "The single lane was not paused.\n"
    assert call("resume", "bulk").stdout == "Resumed bulk jobs; 3 wait.\n"
    assert pauses.paused() == {}
    wrong = call("pause", "fast")
    assert (wrong.exit_code, "'fast' is not one of 'single', 'bulk'" in wrong.stderr) == (2, True)


def test_a_lane_is_paused_and_resumed_while_redis_has_no_memory_left(
    settings: Settings, jobs: JobStore
) -> None:
    """That may be why."""
    pauses = Pauses(connect(settings.redis_url.get_secret_value(), kind=OomTolerantRedis))
    jobs.client.config_set("maxmemory", 1)
    try:
        assert pauses.pause("bulk")
        assert list(pauses.paused()) == ["bulk"]
        assert pauses.resume("bulk")
    finally:
        jobs.client.config_set("maxmemory", 0)
    assert json.loads(json.dumps(pauses.paused())) == {}
