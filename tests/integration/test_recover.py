"""`recover`: Redis has lost everything, and storage has the images and the archive of results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from api.app import create_app
from api.backup.command import recover as command
from api.backup.create import Backup
from api.backup.recover import UNKNOWN_CAMERA
from api.backup.restore import Restorer
from api.backup.target import Target
from api.installation import installation_of
from core.jobs import JobState, Outcome, Prediction
from core.redis import keys
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from core.redis.ledger import Counts, Ledger
from core.redis.recovered import RecoveredJobs
from core.settings import Settings
from core.shards import IMAGES, Shard
from core.storage import ObjectStore
from tests.support.archive import Hours, deliver_all, new_sink
from tests.support.images import jpeg
from tests.support.servers import Server
from tests.support.stream import assert_balanced, states, upload, upload_bulk, wait_settled

SEEN = Prediction("biodegradable", 0.9, review=True)


@pytest.fixture(autouse=True)
def _no_images(settings: Settings, objects: ObjectStore) -> None:
    """Images and results of earlier tests are in the shared bucket."""
    for page in [*objects.pages(IMAGES), *objects.pages("results")]:
        objects.delete_many(page)


def archive(jobs: JobStore, objects: ObjectStore, ids: Sequence[str]) -> None:
    """Settle jobs in the last hour that is over, the first as failed, and archive that hour."""
    hours = Hours(jobs)
    failed = Outcome(ids[0], JobState.FAILED, error="No image.")
    jobs.settle([failed, *(Outcome(job_id, JobState.CLASSIFIED, SEEN) for job_id in ids[1:])], "model")
    for job_id in ids:
        jobs.client.hset(keys.job(job_id), "settled", hours.last)
    hours.entries.append((hours.last, list(ids)))
    hours.write()
    deliver_all(new_sink(jobs, objects), Cursor(hours.last))


def recover(settings: Settings, *options: str) -> str:
    """Run the command; return what it prints."""
    result = CliRunner().invoke(command, options, obj=lambda: settings)
    assert result.exit_code == 0, result.output
    return str(result.stdout)


def total(jobs: JobStore) -> Counts:
    """The ledger's sum; it must balance."""
    assert_balanced(jobs)
    return Ledger(jobs.client).balance().counts


def test_every_image_settles_once(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    start_worker: Callable[..., Server],
) -> None:
    """Archived results are there again; the other images, also of half an object, are classified."""
    bulk = [*upload_bulk(client, 20, camera="belt (1)"), upload(client)]
    settled = bulk[8:]
    archive(jobs, objects, settled)
    waiting = [*bulk[:8], *upload_bulk(client, 20, broken={3}), upload(client), upload(client)]
    direct = Shard.direct("jpeg")
    objects.put(direct.key, jpeg())
    objects.put(Shard.direct("jpeg").key, b"no image")
    results = client.post("/v1/jobs/query", json={"ids": settled}).get_json()["jobs"]
    jobs.client.flushall()
    assert "wastestream recover" in create_app(settings).test_client().get("/v1/ledger").get_json()["detail"]

    said = recover(settings, "--dry-run")
    assert f"Would recover {len(bulk) + 23} jobs: 13 that the archive has as settled, and 31 images" in said
    assert not jobs.client.exists(keys.INSTALLATION, keys.LEDGERS)
    assert f"Recovered {len(bulk) + 23} jobs" in recover(settings)
    assert states(jobs, waiting) == {JobState.QUEUED: len(waiting)}
    assert client.post("/v1/jobs/query", json={"ids": settled}).get_json()["jobs"] == results

    start_worker()
    upload(client)
    counted = wait_settled(jobs, [*waiting, direct.id], 90)
    assert counted == {JobState.CLASSIFIED: len(waiting), JobState.FAILED: 1}
    sums = total(jobs)
    assert (sums["received"], sums["recovered"], sums["failed"]) == (45, 44, 2)
    job = jobs.read(direct.id)
    assert job
    assert job.camera == UNKNOWN_CAMERA
    page = create_app(settings).test_client().get("/v1/ledger").get_json()
    assert (page["balanced"], page["system"]["recovered"]) == (True, 44)
    assert "Recovered 13 jobs" in recover(settings)
    assert total(jobs) == sums


@pytest.mark.parametrize("step", ["enqueue", "count", "mark"])
def test_a_recovery_that_was_cut_off_continues(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Wherever it ends, nothing is counted or enqueued twice; the API is closed until it is complete."""
    settled, waiting = upload_bulk(client, 20), [*upload_bulk(client, 20), upload(client)]
    archive(jobs, objects, settled)
    jobs.client.flushall()
    original, calls = getattr(RecoveredJobs, step), []

    def cut_off(*arguments: object) -> None:
        original(*arguments)
        calls.append(arguments)
        if len(calls) == (2 if step == "enqueue" else 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(RecoveredJobs, step, cut_off)
    CliRunner().invoke(command, obj=lambda: settings)
    assert calls
    answer = create_app(settings).test_client().get("/v1/ledger").get_json()
    assert "recovery was cut off" in answer["detail"]
    monkeypatch.undo()
    said = recover(settings)
    assert ("Earlier runs had made jobs of" in said) == (step != "count")
    sums = total(jobs)
    assert {name: sums[name] for name in ("received", "classified", "failed", "recovered")} == {
        "received": 41,
        "classified": 19,
        "failed": 1,
        "recovered": 41,
    }
    assert states(jobs, waiting) == {JobState.QUEUED: 21}
    named = sum(jobs.client.llen(f"wastestream.{lane}") for lane in ("single", "bulk"))
    assert named == 3
    assert create_app(settings).test_client().get("/v1/ledger").get_json()["balanced"] is True


def test_after_the_loss_was_accepted(settings: Settings, client: FlaskClient, jobs: JobStore) -> None:
    """`installation renew` first, new images then, `recover` last: the old images join."""
    waiting = [upload(client) for _ in range(3)]
    jobs.client.flushall()
    installation_of(settings).renew()
    again = create_app(settings).test_client()
    new = upload(again)
    assert "and 3 images" in recover(settings)
    assert states(jobs, [*waiting, new]) == {JobState.QUEUED: 4}
    assert (total(jobs)["received"], total(jobs)["recovered"]) == (4, 3)
    assert "and 0 images" in recover(settings)
    assert total(jobs)["recovered"] == 3


def test_after_a_backup_was_restored(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    tmp_path: Path,
) -> None:
    """Redis from the backup, and the images that came after it."""
    old = [*upload_bulk(client, 20), upload(client)]
    archive(jobs, objects, old[:5])
    Backup(settings, Target(str(tmp_path), make=True), lambda _: None).run()
    new = [*upload_bulk(client, 20), upload(client)]
    jobs.client.flushall()
    Restorer(settings, Target(str(tmp_path), make=False), lambda _: None).run(skip_damaged=False)
    assert "and 21 images" in recover(settings)
    assert states(jobs, new) == {JobState.QUEUED: 21}
    sums = total(jobs)
    assert (sums["received"], sums["recovered"], sums["failed"]) == (42, 21, 1)


def test_nothing_to_recover(settings: Settings, client: FlaskClient, objects: ObjectStore) -> None:
    """A running installation is left as it is; a bucket of nobody is named."""
    result = CliRunner().invoke(command, obj=lambda: settings)
    assert (result.exit_code, "belongs to no installation" in result.stderr) == (1, True)
    upload(client)
    assert "Recovered 0 jobs" in recover(settings)
