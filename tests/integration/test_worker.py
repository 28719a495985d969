"""Real workers on a real Redis and a real S3 server."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from core.ids import new_job_id
from core.jobs import Job
from core.messages import QUEUES, Envelope, make_app
from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from core.storage import ObjectStore
from tests.conftest import environment_of
from tests.support.damage import frames
from tests.support.images import jpeg
from tests.support.servers import Server, free_port, run_module, wait_until
from tests.support.stream import BROKEN, assert_balanced, states, upload, upload_bulk, wait_settled

StartWorker = Callable[..., Server]


def test_an_image_is_classified(client: FlaskClient, jobs: JobStore, start_worker: StartWorker) -> None:
    """From upload to prediction, through queue, storage and model."""
    start_worker()
    job = client.get(f"/v1/jobs/{upload(client)}?wait=20").get_json()
    assert job["state"] == "classified"
    assert job["prediction"]["label"] in {"biodegradable", "non_biodegradable"}
    assert 0 <= job["prediction"]["probability"] <= 1
    assert_balanced(jobs)


def test_bad_images_fail_alone(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore, start_worker: StartWorker
) -> None:
    """Images without all pixels, and lost ones, settle failed with a reason; the rest is classified."""
    good, shared = upload_bulk(client, 20, broken=[7]), upload_bulk(client, 5)
    broken, missing = upload(client, BROKEN), upload(client, jpeg(7))
    shown = [upload(client, frame.data, kind="application/octet-stream") for frame in [*frames()][::20]]
    objects.delete_many([job.image_key for job in jobs.read_many([missing, shared[0]]) if job is not None])
    start_worker()
    assert wait_settled(jobs, [*good, *shared, broken, missing]) == {"classified": 19, "failed": 8}
    assert wait_settled(jobs, shown) == {"classified": len(shown)}
    for job in jobs.read_many([broken, good[7]]):
        assert job is not None
        assert "damaged or cut off" in (job.error or "")
    for job in jobs.read_many([missing, *shared]):
        assert job is not None
        assert job.error == "Storage does not have the image; send it again."  # and no name of an object
    assert_balanced(jobs)


def test_a_backlog_runs_in_full_batches_and_a_lone_image_by_itself(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """160 waiting jobs take batches of 32; an image that comes when all is quiet is a batch of one."""
    ids = upload_bulk(client, 160)
    runs = tmp_path / "runs"
    start_worker(
        module="tests.support.faulty_worker", FAULT="none", MARKER=str(tmp_path / "m"), RUNS=str(runs)
    )
    wait_settled(jobs, ids)
    backlog = [len(line.split()) for line in runs.read_text().splitlines()]
    assert sum(backlog) == 160
    assert max(backlog) == 32
    wait_settled(jobs, [upload(client)])
    assert len(runs.read_text().splitlines()[-1].split()) == 1


def test_celery_tools_see_every_job(
    client: FlaskClient, jobs: JobStore, settings: Settings, start_worker: StartWorker, tmp_path: Path
) -> None:
    """`inspect` lists the jobs of a shard one by one, the running ones as active."""
    start_worker(
        module="tests.support.faulty_worker", FAULT="slow", SLOW_SECONDS="3", MARKER=str(tmp_path / "m")
    )
    ids = upload_bulk(client, 64)
    inspect = make_app(settings).control.inspect(timeout=2)
    seen: dict[str, set[str]] = {"active": set(), "reserved": set()}

    def look() -> bool:
        for kind, ids in seen.items():
            answer: dict[str, list[dict[str, Any]]] = getattr(inspect, kind)() or {}
            ids.update(request["id"] for requests in answer.values() for request in requests)
        return bool(seen["active"] and seen["reserved"])

    wait_until(look, "active and reserved jobs")
    assert seen["active"] | seen["reserved"] <= set(ids)
    assert wait_settled(jobs, ids) == {"classified": 64}
    stats = inspect.stats() or {}
    assert [worker["total"]["wastestream.classify"] for worker in stats.values()] == [64]


def test_a_revoked_job_settles_cancelled(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore, settings: Settings, start_worker: StartWorker
) -> None:
    """`celery control revoke` on a job's id keeps it from being classified; its neighbours are."""
    start_worker()
    app = make_app(settings)
    new = Job(new_job_id(), "belt", "jpeg", len(jpeg()))

    def revoked() -> bool:
        app.control.revoke(new.id)  # Said again and again: who does not listen yet does not hear it.
        return new.id in str(app.control.inspect(timeout=1).revoked())

    wait_until(revoked, "the worker to know of it")
    objects.put_many([(new.image_key, jpeg())])
    jobs.accept([new], "single", QUEUES["single"], [Envelope(app).message([new.image_key], "single")])
    assert wait_settled(jobs, [new.id, upload(client)]) == {"cancelled": 1, "classified": 1}
    assert_balanced(jobs)
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "the message to be acknowledged")


def test_a_foreign_message_is_discarded(
    client: FlaskClient, jobs: JobStore, settings: Settings, start_worker: StartWorker
) -> None:
    """Messages that name no jobs, or another task, do not stop the stream."""
    app = make_app(settings)
    for name, arguments in (
        ("wastestream.classify", [["nonsense"]]),
        ("wastestream.classify", []),
        ("other", []),
    ):
        app.send_task(name, args=arguments, queue=QUEUES["single"])
    start_worker()
    assert wait_settled(jobs, [upload(client)]) == {"classified": 1}
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "the messages to be gone")


def test_sigterm_finishes_the_batch_and_returns_the_rest(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, tmp_path: Path
) -> None:
    """A worker told to stop exits 0 in time; another runs the jobs that it had not begun."""
    first = start_worker(
        "first",
        module="tests.support.faulty_worker",
        FAULT="slow",
        SLOW_SECONDS="1",
        MARKER=str(tmp_path / "m"),
    )
    ids = upload_bulk(client, 100)
    wait_until(lambda: states(jobs, ids)["classified"] > 0, "the first batch")
    assert first.kill(signal.SIGTERM) == 0
    done = states(jobs, ids)
    assert 0 < done["classified"] < 100
    assert jobs.client.hlen("unacked") == 0
    assert WorkerRegistry(jobs.client).names() == []
    start_worker("second")
    assert wait_settled(jobs, ids) == {"classified": 100}
    assert_balanced(jobs)


@pytest.mark.parametrize(
    ("prepare", "says"),
    [
        (Path.exists, "manifest.json cannot be read"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is not a model manifest"),
    ],
)
def test_a_worker_without_a_model_exits_with_the_reason(
    settings: Settings, tmp_path: Path, prepare: Callable[[Path], object], says: str
) -> None:
    """No worker runs that cannot classify."""
    prepare(tmp_path)
    done = run_module(
        "worker", environment=environment_of(settings) | {"WASTESTREAM_MODEL_DIR": str(tmp_path)}
    )
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_health_command_tells_whether_a_worker_of_this_machine_lives(
    settings: Settings, redis_server: Server, start_worker: StartWorker
) -> None:
    """Exit code 1 with a sentence before, 0 while it runs, and 0 while nobody can know."""

    def health() -> subprocess.CompletedProcess[str]:
        return run_module("worker.health", environment=environment_of(settings))

    before = health()
    assert (before.returncode, "No worker of" in before.stderr) == (1, True)
    start_worker()
    assert health().returncode == 0
    redis_server.kill()
    try:
        away = health()
    finally:
        redis_server.start()
    assert (away.returncode, "Unknown" in away.stderr) == (0, True)


def test_events_tell_of_every_job(
    client: FlaskClient, jobs: JobStore, settings: Settings, start_worker: StartWorker
) -> None:
    """Received, started and succeeded or failed, by the job's id, as Flower shows them."""
    seen: dict[str, set[str]] = {}
    app = make_app(settings)
    with app.connection_for_read() as connection:
        handler = {"*": lambda event: seen.setdefault(event["type"], set()).add(event.get("uuid", ""))}
        receiver = app.events.Receiver(connection, handlers=handler)
        with receiver.consumer_context(wakeup=False) as (subscribed, _channel, _consumers):

            def receive() -> None:
                with contextlib.suppress(TimeoutError):
                    subscribed.drain_events(timeout=0.2)

            start_worker(events=True)
            receive()  # This subscribes; what was sent before is not seen.
            good = upload_bulk(client, 20)
            broken = upload(client, BROKEN)

            def complete() -> bool:
                receive()
                return seen.get("task-succeeded") == set(good) and seen.get("task-failed") == {broken}

            wait_until(complete, "every event")
    assert seen["task-received"] == seen["task-started"] == {*good, broken}


def test_the_log_holds_no_secret(settings: Settings, client: FlaskClient, start_worker: StartWorker) -> None:
    """Neither of a Redis that rejects the password nor of a storage that does not answer."""
    password, port = "s3cret-of-redis", settings.redis_url.get_secret_value().rpartition(":")[2]
    locked = start_worker(
        "locked", ready=False, WASTESTREAM_REDIS_URL=f"redis://nobody:{password}@127.0.0.1:{port}"
    )
    assert locked.process is not None
    assert locked.process.wait(timeout=30) == 1
    assert "Redis rejects the user or the password in WASTESTREAM_REDIS_URL" in locked.log.read_text()
    upload(client)
    unserved = start_worker("unserved", WASTESTREAM_S3_ENDPOINT=f"http://127.0.0.1:{free_port()}")
    wait_until(lambda: "not settled" in unserved.log.read_text(), "the worker to miss storage")
    for log in (locked.log.read_text(), unserved.log.read_text()):
        assert password not in log
        assert settings.s3_secret_key.get_secret_value() not in log
