"""Workers told to stop, whatever they are doing: they end soon, and their jobs go on elsewhere."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from flask.testing import FlaskClient

from core.ledger import JobStore
from tests.support.servers import Server, wait_until
from tests.support.stream import assert_balanced, states, upload_bulk, wait_settled

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


def _finish(jobs: JobStore, ids: list[str]) -> None:
    assert wait_settled(jobs, ids) == {"classified": len(ids)}
    assert_balanced(jobs)
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")


def test_sigterm_while_storage_is_down(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker
) -> None:
    """A worker that waits for storage returns what it holds and ends with exit code 0."""
    ids = upload_bulk(client, 40)
    s3_server.kill()
    try:
        first = start_worker("first")
        wait_until(lambda: "put back" in first.log.read_text(), "the worker to wait")
        assert first.kill(signal.SIGTERM) == 0
        assert states(jobs, ids) == {"queued": 40}
        assert jobs.client.hlen("unacked") == 0
    finally:
        s3_server.start()
    start_worker("second")
    _finish(jobs, ids)


def test_sigterm_while_redis_is_down(
    client: FlaskClient, jobs: JobStore, redis_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker that cannot return what it holds ends all the same; the messages' leases run out."""
    first = start_worker("first", module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    redis_server.kill()
    try:
        first.kill(signal.SIGTERM)
    finally:
        redis_server.start()
    start_worker("second")
    _finish(jobs, ids)


def test_sigterm_twice(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The second one does not make it lose what it holds."""
    first = start_worker("first", module=FAULTY, FAULT="slow", SLOW_SECONDS="1", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    assert first.process is not None
    os.kill(first.process.pid, signal.SIGTERM)
    wait_until(lambda: "Warm shutdown" in first.log.read_text(), "the worker to hear it")
    first.kill(signal.SIGTERM)
    start_worker("second")
    _finish(jobs, ids)
