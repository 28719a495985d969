"""More work than the workers can do, and workers that come and go while it comes."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from flask.testing import FlaskClient

from core.jobs import JobState
from core.messages import keys_in
from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from tests.support.servers import Server, wait_until
from tests.support.stream import finish, states, upload, upload_bulk, upload_group, uploading

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"

_MAX_HELD = 2 * 32 + 32  # jobs that a worker may hold: its prefetch, and the batch that runs


def _held(jobs: JobStore) -> int:
    """Return how many jobs are in the workers' hands."""
    messages = [json.loads(entry)[0] for entry in jobs.client.hvals("unacked")]
    return sum(len(keys_in(message)) for message in messages)


def test_bulk_uploads_do_not_starve_single_images(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Single images that come after a large bulk upload are done long before it."""
    ids = upload_bulk(client, 448)
    start_worker(module=FAULTY, FAULT="slow", SLOW_SECONDS="0.5", MARKER=str(tmp_path / "m"))
    for _ in range(3):
        single = upload(client)
        wait_until(lambda job_id=single: states(jobs, [job_id])["queued"] == 0, "a single image")  # type: ignore[misc]
        assert states(jobs, ids)["queued"] > 100
        ids.append(single)
    finish(jobs, ids)


@pytest.mark.parametrize("grouped", [False, True])
def test_an_overload_is_held_in_the_queue_and_worked_off(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path, *, grouped: bool
) -> None:
    """At twice its capacity a worker holds its prefetch at most, and no more memory; every job settles."""

    def load() -> list[str]:
        if not grouped:
            return upload_bulk(client, 64)
        return [job_id for _ in range(4) for job_id in upload_group(client, [None] * 16)]

    worker = start_worker(module=FAULTY, FAULT="slow", SLOW_SECONDS="0.4", MARKER=str(tmp_path / "m"))
    assert worker.process is not None
    process = psutil.Process(worker.process.pid)
    ids = load()
    before = process.memory_info().rss
    until = time.monotonic() + 2.5
    while time.monotonic() < until:
        ids += load()
        assert _held(jobs) <= _MAX_HELD
        time.sleep(0.2)
    assert states(jobs, ids)[JobState.QUEUED] > 2 * _MAX_HELD
    finish(jobs, ids)
    assert process.memory_info().rss - before < 30_000_000


def test_workers_come_and_go_under_load(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """From one to four, back to one, and that one replaced: done + queued = accepted, none counted twice."""
    options = {"FAULT": "slow", "MARKER": str(tmp_path / "m")}
    with uploading(client) as ids:
        workers = [start_worker("worker-1", module=FAULTY, **options)]
        workers += [start_worker(f"worker-{number}", module=FAULTY, **options) for number in (2, 3, 4)]
        for worker in workers[:3]:
            assert worker.kill(signal.SIGTERM) == 0
        start_worker("successor", module=FAULTY, **options)
        assert workers[3].kill(signal.SIGTERM) == 0
    finish(jobs, ids)
    assert len(ids) > 50


def test_a_worker_that_takes_no_jobs_ends(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Jobs wait, it could run them and does not: it says so and fails, and is not counted as alive."""
    deaf = start_worker("deaf", module=FAULTY, FAULT="deaf", MARKER=str(tmp_path / "m"))
    assert deaf.process is not None
    ids = upload_bulk(client, 40)
    assert deaf.process.wait(timeout=30) == 1
    assert "this worker has taken none" in deaf.log.read_text()
    assert WorkerRegistry(jobs.client).names() == []
    start_worker("successor")
    finish(jobs, ids)


def test_a_worker_whose_child_cannot_start_ends(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It says why and fails, instead of starting children for ever; its jobs go to others."""
    ids = upload_bulk(client, 5)
    broken = start_worker("broken", module=FAULTY, FAULT="no child", MARKER=str(tmp_path / "m"), ready=False)
    assert broken.process is not None
    assert broken.process.wait(timeout=60) == 1
    assert "the worker's child cannot start" in broken.log.read_text().lower()
    start_worker("successor")
    finish(jobs, ids)


def test_a_worker_that_waits_for_storage_is_not_taken_for_one_that_takes_no_jobs(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It has a reason, so it stays, however long storage is down."""
    (tmp_path / "m").touch()  # It consumes, and counts as stuck after a second.
    ids = upload_bulk(client, 200)
    s3_server.kill()
    try:
        worker = start_worker(module=FAULTY, FAULT="deaf", MARKER=str(tmp_path / "m"))
        wait_until(lambda: worker.log.read_text().count("not settled") >= 4, "the worker to wait for storage")
        time.sleep(6)  # It looks every five seconds.
        assert worker.process is not None
        assert worker.process.poll() is None
    finally:
        s3_server.start()
    finish(jobs, ids)
