"""Kills of every process: each accepted job settles once, and the ledger balances."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.servers import Server, wait_until
from tests.support.stream import assert_balanced, finish, states, upload, upload_bulk, uploading, wait_settled

StartWorker = Callable[..., Server]
FAULTY = "tests.support.faulty_worker"


def test_the_child_is_killed(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Its batch is run again by a new child."""
    worker = start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 40)
    (child,) = worker.children()
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    os.kill(child, signal.SIGKILL)
    finish(jobs, ids)


@pytest.mark.parametrize("moment", ["in fetch", "in model", "after settle", "after pop"])
def test_the_worker_is_killed(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path, moment: str
) -> None:
    """SIGKILL between pop and record, in a fetch, in the model, before the ack: another worker finishes."""
    ids = [*upload_bulk(client, 40), upload(client)]
    doomed = start_worker("doomed", module=FAULTY, FAULT=moment, MARKER=str(tmp_path / "m"))
    assert doomed.process is not None
    assert doomed.process.wait(timeout=30) == -signal.SIGKILL
    start_worker("heir")
    finish(jobs, ids)


def test_the_worker_is_killed_with_a_half_full_buffer(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """It dies with a batch at work and less than a batch gathered behind it; all of it goes to another."""
    runs = tmp_path / "runs"
    options = {"MARKER": str(tmp_path / "m"), "RUNS": str(runs)}
    doomed = start_worker("doomed", module=FAULTY, FAULT="slow", SLOW_SECONDS="60", **options)
    first = upload(client)
    wait_until(runs.exists, "the first image to be at work")
    ids = [first, *(upload(client) for _ in range(16))]
    wait_until(lambda: jobs.client.hlen("unacked") == len(ids), "the others to be gathered")
    assert runs.read_text().split() == [first]
    assert 0 < len(ids) - 1 < Settings().max_batch
    doomed.kill()
    start_worker("heir")
    finish(jobs, ids)


def test_an_image_that_kills_the_worker_fails_and_takes_no_other_with_it(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The third crash settles it `failed`; the others of its batch are classified."""
    good = upload_bulk(client, 20)
    poison = upload(client, camera="poison")
    start_worker(module=FAULTY, FAULT="crash", MARKER=str(tmp_path / "m"))
    assert wait_settled(jobs, good) == {"classified": 20}
    assert wait_settled(jobs, [poison]) == {"failed": 1}
    job = jobs.read(poison)
    assert job is not None
    assert "crashed the worker 3 times" in (job.error or "")
    assert_balanced(jobs)


def test_an_image_that_kills_the_process_spares_those_that_share_its_object(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """They come in one message and lie in one object, and run alone after the first crash."""
    poison, *others = upload_bulk(client, 16, camera="first-is-poison")
    start_worker(module=FAULTY, FAULT="crash", MARKER=str(tmp_path / "m"))
    assert wait_settled(jobs, [poison]) == {"failed": 1}
    assert wait_settled(jobs, others) == {"classified": 15}
    assert_balanced(jobs)


def test_a_hung_batch_is_ended(
    client: FlaskClient, jobs: JobStore, settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The time limit ends the child; the image that hangs it fails in the end."""
    ids = upload_bulk(client, 5)
    hanging = upload(client, camera="poison")
    start_worker(module=FAULTY, FAULT="hang", MARKER=str(tmp_path / "m"), WASTESTREAM_BATCH_TIMEOUT="1")
    assert wait_settled(jobs, ids) == {"classified": 5}
    assert wait_settled(jobs, [hanging]) == {"failed": 1}
    assert_balanced(jobs)


def test_redis_is_killed_under_load(
    client: FlaskClient, jobs: JobStore, redis_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """The append-only file has every accepted job; the API and the workers reconnect and continue."""
    start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 100)
    wait_until(lambda: states(jobs, ids)["classified"] > 0, "the first batch")
    with uploading(client) as more:
        for _ in range(2):
            seen = len(more)
            wait_until(lambda before=seen: len(more) > before, "uploads")  # type: ignore[misc]
            redis_server.kill()
            try:  # An answer of before holds for a second.
                wait_until(lambda: client.get("/readyz").status_code == 503, "the API to notice", 5)
            finally:
                redis_server.start()  # Other tests need it, too.
            wait_until(lambda: client.get("/readyz").status_code == 200, "the API to be ready again")
    finish(jobs, ids + more)


def test_storage_is_killed_under_load(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker, tmp_path: Path
) -> None:
    """No image fails because storage is down: its job waits until storage is back, and so do uploads."""
    worker = start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 200)
    with uploading(client) as more:
        wait_until(lambda: states(jobs, ids)["classified"] > 0 and bool(more), "the first batch, and uploads")
        s3_server.kill()
        wait_until(lambda: "not settled" in worker.log.read_text(), "the worker to notice")
        assert states(jobs, ids)["queued"] > 0
        assert states(jobs, ids)["failed"] == 0
        s3_server.start()
    finish(jobs, ids + more)


def test_a_child_dies_while_storage_is_down(
    client: FlaskClient, jobs: JobStore, s3_server: Server, start_worker: StartWorker
) -> None:
    """The pause ends although the batch that was to find out ended without a result."""
    ids = upload_bulk(client, 20)
    s3_server.kill()
    worker = start_worker()
    try:
        for notices in (1, 2, 3):
            wait_until(
                lambda seen=notices: worker.log.read_text().count("not settled") >= seen,  # type: ignore[misc]
                "the worker to notice",
            )
            for child in worker.children():
                os.kill(child, signal.SIGKILL)
    finally:
        s3_server.start()
    finish(jobs, ids)


@pytest.mark.parametrize("count", [1, 5])
def test_an_object_that_storage_does_not_serve_fails_alone(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path, count: int
) -> None:
    """Other images are not held up; its own settle `failed` after several attempts."""
    stuck = upload_bulk(client, count, camera="poison")
    good = upload_bulk(client, 100)
    start_worker(module=FAULTY, FAULT="not served", MARKER=str(tmp_path / "m"))
    assert wait_settled(jobs, good) == {"classified": 100}
    assert wait_settled(jobs, stuck) == {"failed": count}
    for job in jobs.read_many(stuck):
        assert job is not None
        assert "Storage did not serve the image" in (job.error or "")
    assert_balanced(jobs)


def test_acknowledgements_that_fail_are_made_up_for(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Messages whose acknowledgement failed do not fill the worker's hands for ever."""
    ids = upload_bulk(client, 100)
    start_worker(module=FAULTY, FAULT="ack", MARKER=str(tmp_path / "m"))
    finish(jobs, ids)


def test_a_broker_connection_is_cut(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Redis drops every client in the middle of a batch: nothing is lost or counted twice."""
    start_worker(module=FAULTY, FAULT="slow", MARKER=str(tmp_path / "m"))
    ids = upload_bulk(client, 60)
    wait_until(lambda: jobs.client.hlen("unacked") > 0, "a batch to start")
    jobs.client.client_kill_filter(_type="normal", skipme=True)
    finish(jobs, ids)


def test_cut_connections_end_no_worker_and_count_no_start(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """Many cuts under load, then quiet: batches that ended with a connection are nobody's fault."""
    limit, begun = 3.0, tmp_path / "begun"
    options = {"FAULT": "slow", "SLOW_SECONDS": "0.5", "MARKER": str(tmp_path / "m"), "BEGUN": str(begun)}
    options["WASTESTREAM_BATCH_TIMEOUT"] = str(limit)
    workers = [start_worker(name, module=FAULTY, **options) for name in ("first", "second")]
    children = [worker.children() for worker in workers]
    ids = upload_bulk(client, 200)
    with uploading(client) as more:
        for _ in range(24):
            for kind in ("normal", "pubsub"):
                jobs.client.client_kill_filter(_type=kind, skipme=True)
            time.sleep(0.25)
    ids += more
    quiet_until = time.monotonic() + 2 * limit + 1
    finish(jobs, ids)
    time.sleep(max(0.0, quiet_until - time.monotonic()))
    assert [worker.children() for worker in workers] == children
    assert not begun.exists()
