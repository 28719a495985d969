"""Workers told to stop, in every state: they end soon, and other workers take their jobs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from flask.testing import FlaskClient

from core.redis.job_store import JobStore
from tests.support.servers import Server, wait_until
from tests.support.stream import finish, states, upload, upload_bulk

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


def test_sigterm_while_storage_is_down(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker
) -> None:
    """A worker that waits for storage returns its messages and ends with exit code 0."""
    ids = upload_bulk(client, 40)
    s3_server.kill()
    try:
        first = start_worker("first")
        wait_until(lambda: "not settled" in first.log.read_text(), "the worker to wait")
        assert first.kill(signal.SIGTERM) == 0
        assert states(jobs, ids) == {"queued": 40}
        assert jobs.client.hlen("unacked") == 0
    finally:
        s3_server.start()
    start_worker("second")
    finish(jobs, ids)


def test_sigterm_while_redis_is_down(
    client: FlaskClient, jobs: JobStore, redis_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker that cannot return its messages ends all the same; their leases run out."""
    first = start_worker("first", module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    redis_server.kill()
    try:
        first.kill(signal.SIGTERM)
    finally:
        redis_server.start()
    start_worker("second")
    finish(jobs, ids)


def test_sigterm_while_the_last_batch_hangs(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It gets as long as a stop may take, not as long as a batch; the worker after it runs its jobs alone."""
    hanging, others = upload(client, camera="poison"), upload_bulk(client, 5)
    runs = tmp_path / "runs"
    options = {"MARKER": str(tmp_path / "m"), "RUNS": str(runs), "VISIBILITY": "2"}
    worker = start_worker(
        "first", module=FAULTY, FAULT="hang", STOP="1", WASTESTREAM_BATCH_TIMEOUT="600", **options
    )
    wait_until(lambda: hanging in (runs.read_text() if runs.exists() else ""), "the batch to start")
    assert worker.kill(signal.SIGTERM) == 0
    assert jobs.pending() == 6
    start_worker("second", module=FAULTY, FAULT="none", **options)
    finish(jobs, [hanging, *others])


def test_sigterm_twice(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The second signal does not make it lose its messages."""
    first = start_worker("first", module=FAULTY, FAULT="slow", SLOW_SECONDS="1", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in first.log.read_text(), "the worker to hear it")
    first.kill(signal.SIGTERM)
    start_worker("second")
    finish(jobs, ids)
