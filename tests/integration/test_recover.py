"""`recover`: Redis has lost everything, and storage has the images and the archive of results."""

from __future__ import annotations

import io
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
from core.redis import job_index, keys
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from core.redis.ledger import Counts, Ledger
from core.redis.recovered import RecoveredJobs
from core.settings import Settings
from core.shards import Shard
from core.storage import ObjectStore
from core.times import timestamp
from tests.support.archive import Hours, deliver_all, new_sink
from tests.support.backups import remove_earlier
from tests.support.images import encoded, jpeg
from tests.support.servers import Server
from tests.support.stream import assert_balanced, states, upload, upload_bulk, wait_settled

SEEN = Prediction("biodegradable", 0.9, review=True)


@pytest.fixture(autouse=True)
def _no_images(objects: ObjectStore) -> None:
    remove_earlier(objects)


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


def listed(settings: Settings, **query: str) -> list[str]:
    """Return the ids in `GET /v1/jobs`."""
    answer = create_app(settings).test_client().get("/v1/jobs", query_string={"limit": "1000", **query})
    return [job["id"] for job in answer.get_json()["jobs"]]


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
    assert sorted(listed(settings)) == sorted([*bulk[8:], *waiting, direct.id])  # also of half an object

    start_worker()
    new = upload(
        create_app(settings).test_client()
    )  # The one of before compares the installation each second.
    counted = wait_settled(jobs, [*waiting, direct.id, new], 90)
    assert counted == {JobState.CLASSIFIED: len(waiting) + 1, JobState.FAILED: 1}
    sums = total(jobs)
    assert (sums["received"], sums["recovered"], sums["failed"]) == (45, 44, 2)
    job = jobs.read(direct.id)
    assert job
    assert job.camera == UNKNOWN_CAMERA
    page = create_app(settings).test_client().get("/v1/ledger").get_json()
    assert (page["balanced"], page["system"]["recovered"]) == (True, 44)
    assert "Recovered 13 jobs" in recover(settings)
    assert total(jobs) == sums


def test_settled_jobs_can_be_listed_and_their_images_read(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each format, though the images share an object; by the time of acceptance, and once each."""
    monkeypatch.setattr(job_index, "_MAX_DELAY_MS", 0)
    images = {"image/png": encoded(image_format="PNG"), "image/webp": encoded(image_format="WEBP")}
    images["image/jpeg"] = jpeg()
    parts = [(io.BytesIO(data), "name", kind) for kind, data in images.items()]
    bulk = client.post("/v1/images/bulk", data={"i": parts}, headers={"X-Camera-Id": "belt"})
    ids = [item["job"]["id"] for item in bulk.get_json()["items"]]
    gone, alone = upload(client), upload(client, images["image/png"], kind="image/png")
    objects.delete_many([job.image_key for job in jobs.read_many([gone]) if job])
    archive(jobs, objects, [*ids, gone, alone])
    accepted = timestamp(jobs.now_ms())
    jobs.client.flushall()
    for _ in range(2):
        said = recover(settings)
        assert "Recovered 5 jobs: 5 that the archive has as settled, and 0 images" in said
        assert "5 are within the retention: they can be read and listed. The feed" in said
        assert sorted(listed(settings, to=accepted)) == sorted([*ids, gone, alone])
    assert listed(settings, state="failed") == ids[:1]
    api = create_app(settings).test_client()
    for kind, job_id in zip([*images, "image/png"], [*ids, alone], strict=True):
        answer = api.get(f"/v1/jobs/{job_id}/image")
        assert (answer.content_type, answer.data) == (kind, images[kind])
    assert api.get(f"/v1/jobs/{gone}/image").status_code == 410
    again = api.post(f"/v1/jobs/{ids[0]}/retry").get_json()["id"]
    assert api.get(f"/v1/jobs/{again}/image").content_type == "image/png"


@pytest.mark.parametrize("step", ["enqueue", "count", "list_settled", "mark"])
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
    assert sorted(listed(settings)) == sorted([*settled, *waiting])
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
