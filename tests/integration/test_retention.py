"""Retention on a real Redis and a real S3 server: old images and rows are removed, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from core.errors import ObjectNotFoundError
from core.jobs import Job, JobState, Outcome
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.settings import Settings
from core.shards import IMAGES, Shard, image_key, job_id_of
from core.storage import ObjectStore
from tests.conftest import environment_of
from tests.support.servers import REPOSITORY, Server, wait_until
from tests.support.stream import assert_balanced, upload
from worker.periodic.retention import Sweep

NOW = datetime.now(UTC)
LIMIT_MS = round((NOW - timedelta(hours=168)).timestamp() * 1000)
OLD, BARELY, FRESH = (NOW - timedelta(hours=hours) for hours in (900, 168.1, 167.9))


def _id(when: datetime) -> str:
    return str(ULID.from_datetime(when))


@pytest.fixture
def accept(jobs: JobStore, objects: ObjectStore) -> Callable[..., str]:
    """A function that stores an image of a time and accepts its job, settled or not."""

    def make(when: datetime, camera: str = "belt", *, settled: bool = True) -> str:
        new = Job(_id(when), camera, "jpeg", 1)
        objects.put_many([(new.image_key, b"x")])
        jobs.accept([new], "single", "test.queue", ["message"])
        if settled:
            jobs.settle([Outcome(new.id, JobState.FAILED, error="x")], "m")
        return new.id

    return make


@pytest.fixture
def stored(objects: ObjectStore) -> Callable[[], set[str]]:
    """A function that returns the names of all images in storage, without their formats; none at first."""

    def names() -> set[str]:
        return {job_id_of(key) for page in objects.pages(IMAGES) for key in page}

    for page in list(objects.pages(IMAGES)):
        objects.delete_many(page)
    return names


def test_images_go_when_their_time_has_come(
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    accept: Callable[..., str],
    stored: Callable[[], set[str]],
) -> None:
    """Old images of every camera are removed, also one never accepted; waiting and fresh ones stay."""
    old = [accept(OLD), accept(OLD, "00:1A:2B, B\u00e4nd 2"), accept(BARELY)]
    waiting, fresh, today = accept(OLD, settled=False), accept(FRESH), accept(NOW)
    unaccepted = _id(OLD)
    objects.put_many([(image_key(unaccepted, "never-accepted", "jpeg"), b"x")])
    foreign = [f"images/belt/2020/01/01/{name}.jpeg" for name in ("notes", f"{unaccepted}-notes")]
    objects.put_many([(key, b"somebody else's") for key in foreign])
    before = client.get("/v1/ledger?from=2020-01-01").get_json()["sum"]

    sweep = Sweep(jobs, objects)
    assert sweep.run(LIMIT_MS) == 4
    assert stored() == {waiting, fresh, today, *map(job_id_of, foreign)}
    assert sweep.run(LIMIT_MS) == 0

    gone = client.get(f"/v1/jobs/{old[0]}/image")
    assert gone.status_code == 410
    assert "kept for 168 hours" in gone.get_json(force=True)["detail"]
    assert client.get(f"/v1/jobs/{waiting}/image").data == b"x"
    assert client.get("/v1/ledger?from=2020-01-01").get_json()["sum"] == before
    assert_balanced(jobs)

    jobs.settle([Outcome(waiting, JobState.FAILED, error="x")], "m")
    assert sweep.run(LIMIT_MS) == 1
    objects.delete_many(foreign)
    assert stored() == {fresh, today}


def test_images_that_share_an_object_go_together(jobs: JobStore, objects: ObjectStore) -> None:
    """Not before the last of them has settled; they count as the images they are."""
    shard = Shard.at(f"images/_shared/{OLD:%Y/%m/%d}/{_id(OLD)}-3.tar")
    assert shard is not None
    new = [Job(job_id, "shared", "jpeg", 1, shard=shard.suffix) for job_id in shard.job_ids]
    keys = [job.image_key for job in new]
    objects.put_many([(shard.key, shard.pack([(key, b"x") for key in keys]))])
    jobs.accept(new, "bulk", "test.queue", ["message"])
    sweep = Sweep(jobs, objects)
    for settled in range(3):
        assert sweep.run(LIMIT_MS) == 0
        assert [objects.get(key) for key in keys] == [b"x"] * 3
        jobs.settle([Outcome(new[settled].id, JobState.FAILED, error="x")], "m")
    assert sweep.run(LIMIT_MS) == 3
    with pytest.raises(ObjectNotFoundError):
        objects.get(keys[1])


def test_a_folder_of_many_is_swept_page_by_page(
    jobs: JobStore, objects: ObjectStore, stored: Callable[[], set[str]]
) -> None:
    """More than a listing's page; of the day in which the limit lies, only the part before it."""
    midnight = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
    due = [_id(midnight + timedelta(seconds=number)) for number in range(1100)]
    kept = [_id(midnight + timedelta(hours=12, seconds=number)) for number in range(30)]
    objects.put_many([(image_key(job_id, "busy", "jpeg"), b"x") for job_id in due + kept])
    limit = round((midnight + timedelta(hours=12)).timestamp() * 1000)
    assert Sweep(jobs, objects).run(limit) == 1100
    assert stored() == set(kept)


def _sweep_process(settings: Settings, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "worker.periodic.retention"],
        env={**environment_of(settings), **environment},
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_sweep_that_is_killed_is_made_up_for(
    settings: Settings, objects: ObjectStore, stored: Callable[[], set[str]]
) -> None:
    """The next sweep removes the rest."""
    old = [(image_key(_id(OLD), "belt", "jpeg"), b"x") for _ in range(600)]
    objects.put_many(old)
    first = _sweep_process(settings)
    wait_until(lambda: len(stored()) < 600, "the sweep to begin")
    first.kill()
    first.communicate()
    with _sweep_process(settings) as second:
        assert second.wait(timeout=60) == 0
    assert stored() == set()


def test_the_ledger_is_kept_for_its_time(
    settings: Settings, jobs: JobStore, accept: Callable[..., str]
) -> None:
    """Rows older than the limit go with the sweep, others stay, and the ledger stays balanced."""
    accept(NOW - timedelta(days=40), "a")
    accept(NOW - timedelta(days=40), "b", settled=False)
    accept(NOW, "c")
    with _sweep_process(settings, WASTESTREAM_LEDGER_RETENTION_DAYS="30") as process:
        assert process.wait(timeout=60) == 0
    ledger = Ledger(jobs.client)
    names = ledger.names("-inf", "+inf", max_rows=10)
    assert [name.partition(":")[2] for name in names] == ["b", "c"]
    assert_balanced(jobs)


def test_a_sweep_without_storage_ends_with_a_sentence(settings: Settings) -> None:
    """Exit code 1, and no traceback."""
    nowhere = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    with _sweep_process(nowhere) as process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "The retention sweep stopped: Storage does not answer" in said
    assert "Traceback" not in said


def test_a_worker_sweeps(
    client: FlaskClient,
    accept: Callable[..., str],
    stored: Callable[[], set[str]],
    start_worker: Callable[..., Server],
    tmp_path: Path,
) -> None:
    """Nobody has to start it."""
    accept(OLD)
    fresh = upload(client)
    start_worker(module="tests.support.faulty_worker", FAULT="sweep", MARKER=str(tmp_path / "m"))
    wait_until(lambda: stored() == {fresh}, "the old image to go")
