"""Backup of a running installation, and its restoration into an empty one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from pydantic import SecretStr
from redis import Redis

from api.app import create_app
from api.backup.command import backup as backup_command
from api.backup.command import restore as restore_command
from api.backup.manifest import MANIFEST, Manifest
from api.backup.recover import Recovery
from api.backup.target import Target
from core.bucket import ensure_bucket
from core.errors import BackupError, StorageUnavailableError
from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.messages import QUEUES, Envelope, make_app
from core.redis import keys
from core.redis import restoration as restorations
from core.redis import snapshot as snapshots
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.restoration import Restoration
from core.redis.server import acl_rules
from core.redis.snapshot import Entry, Snapshot
from core.redis.webhooks import WebhookStore
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.backups import contents, database, lossless, make_backup, messages_of, restore
from tests.support.servers import REPOSITORY, Server, wait_until
from tests.support.stream import assert_balanced, states, upload, upload_bulk, uploading, wait_settled

SEEN = Prediction("biodegradable", 0.9, review=True)


@pytest.fixture
def empty(settings: Settings) -> Settings:
    """An empty Redis and no bucket."""
    return database(settings, 1)


def settle(jobs: JobStore, ids: list[str]) -> None:
    """Classify jobs, but the first one, which fails."""
    failed = Outcome(ids[0], JobState.FAILED, error="No image.")
    jobs.settle([failed, *(Outcome(job_id, JobState.CLASSIFIED, SEEN) for job_id in ids[1:])], "model")


def test_a_snapshot_is_of_one_moment(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    empty: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a copy that Redis made then, byte by byte, whatever is accepted, settled and cancelled meanwhile.

    All is read and written in pieces, which part the jobs of a message.
    """
    monkeypatch.setattr(snapshots, "_PIECE", 7)
    monkeypatch.setattr(restorations, "_MEMBERS", 7)
    monkeypatch.setattr(restorations, "_JOBS", 3)
    monkeypatch.setattr(restorations, "_MESSAGES", 1)
    moment = connect(database(settings, 2).redis_url.get_secret_value(), lossless=True)
    WebhookStore(jobs.client).create("https://example.com/", ["*"], [JobState.FAILED])
    settle(jobs, upload_bulk(client, 20))
    waiting = [*upload_bulk(client, 20, camera="belt (1)"), upload(client)]
    KeyStore(jobs.client).create("belt", [Scope.INGEST])
    snapshot = Snapshot(lossless(settings))
    for key in jobs.client.scan_iter("*"):
        jobs.client.copy(key, key, destination_db="2")
    settle(jobs, waiting[3:15])
    jobs.cancel(waiting[0])
    entries = snapshot.entries()
    head = [next(entries) for _ in range(5)]
    others = [Job(new_job_id(), "new", "jpeg", 9) for _ in range(3)]
    new = jobs.accept(others, "bulk", QUEUES["bulk"], ["{}"])
    settle(jobs, [*new.ids[1:], *waiting[15:]])
    lines = [entry.to_line() for entry in [*head, *entries]]

    restoration = Restoration(lossless(empty))
    restoration.begin("digest")
    restoration.write(map(Entry.from_line, lines))
    assert restoration.enqueue(Envelope(make_app(empty))) == len(waiting)
    restoration.open("mark", 0)
    assert contents(lossless(empty)) == contents(moment)
    restored = JobStore(connect(empty.redis_url.get_secret_value()))
    assert states(restored, waiting) == {JobState.QUEUED: 21}
    assert_balanced(restored)
    bulk = waiting[:-1]
    assert messages_of(restored.client) == [waiting[-1:], bulk[:16], bulk[16:]]


def test_a_backup_under_load_is_restored(
    settings: Settings,
    client: FlaskClient,
    jobs: JobStore,
    empty: Settings,
    start_worker: Callable[..., Server],
    tmp_path: Path,
) -> None:
    """Each job has its image; another worker settles what waited; a second backup copies new images only."""
    place = tmp_path / "backup"
    worker = start_worker("first")
    with uploading(client) as ids:
        wait_until(lambda: len(ids) > 40, "uploads")
        before = len(ids)
        manifest = make_backup(settings, place)
        wait_until(lambda: len(ids) > before + 20, "more uploads")
        worker.kill()
        before = len(ids)
        wait_until(lambda: len(ids) > before + 20, "uploads without a worker")
        first = {path.name: path.stat().st_mtime_ns for path in place.rglob("*.jpeg")}
        manifest = make_backup(settings, place)
        known = list(ids)
    second = {path.name: path.stat().st_mtime_ns for path in place.rglob("*.jpeg")}
    assert first.items() < second.items()
    assert manifest.waiting > 0 < manifest.settled
    assert (manifest.lost, manifest.expired) == (0, 0)

    restore(empty, place)
    restored = JobStore(connect(empty.redis_url.get_secret_value()))
    stored = ObjectStore(empty)
    counted = states(restored, known)
    assert counted["unknown"] <= len(known) - before
    for job in restored.read_many(known):
        if job is not None:
            assert stored.get(job.image_key)
    assert_balanced(restored)
    api = create_app(empty).test_client()
    assert api.get("/v1/ledger").get_json()["system"]["pending"] == manifest.waiting
    variables = {
        "WASTESTREAM_REDIS_URL": empty.redis_url.get_secret_value(),
        "WASTESTREAM_S3_BUCKET": empty.s3_bucket,
    }
    start_worker("second", ready=False, **variables)
    upload(api)
    wait_until(lambda: restored.pending() == 0, "every job to settle", 90)
    assert wait_settled(restored, known)[JobState.CLASSIFIED] == len(known) - counted["unknown"]
    assert_balanced(restored)


def test_images_that_retention_removed_are_counted(
    settings: Settings, client: FlaskClient, jobs: JobStore, objects: ObjectStore, tmp_path: Path
) -> None:
    """Of settled jobs that is usual; a waiting job without an image is named as such."""
    ids = [upload(client) for _ in range(3)]
    settle(jobs, ids[:2])
    gone = [job.image_key for job in jobs.read_many(ids[1:]) if job]
    objects.delete_many(gone)
    manifest = make_backup(settings, tmp_path)
    assert (manifest.waiting, manifest.settled, manifest.lost, manifest.expired) == (1, 2, 1, 1)


def test_a_copy_has_the_same_retention(
    settings: Settings, client: FlaskClient, jobs: JobStore, objects: ObjectStore, tmp_path: Path
) -> None:
    """What the installation has forgotten, the next backup forgets too."""
    job_id = upload(client)
    settle(jobs, [job_id])
    make_backup(settings, tmp_path)
    assert list(tmp_path.rglob(f"{job_id}.jpeg"))
    objects.delete_many([job.image_key for job in jobs.read_many([job_id]) if job])
    make_backup(settings, tmp_path)
    assert not list(tmp_path.rglob(f"{job_id}.jpeg"))
    assert len(list(tmp_path.glob("*.gz"))) == 2


def test_a_restoration_that_was_cut_off_continues(
    settings: Settings,
    client: FlaskClient,
    empty: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until it is complete the API is closed, and says why."""
    ids = [*upload_bulk(client, 20), upload(client)]
    make_backup(settings, tmp_path)
    put = ObjectStore.put

    def fail(store: ObjectStore, name: str, data: bytes) -> None:
        if name.endswith(".jpeg"):
            raise StorageUnavailableError("Storage is full.")
        put(store, name, data)

    monkeypatch.setattr(ObjectStore, "put", fail)
    with pytest.raises(StorageUnavailableError):
        restore(empty, tmp_path)
    answer = create_app(empty).test_client().get("/v1/ledger")
    assert (answer.status_code, "is being restored" in answer.get_data(as_text=True)) == (503, True)
    monkeypatch.setattr(ObjectStore, "put", put)
    restore(empty, tmp_path)
    restored = JobStore(connect(empty.redis_url.get_secret_value()))
    assert states(restored, ids) == {JobState.QUEUED: 21}
    assert_balanced(restored)
    assert create_app(empty).test_client().get("/v1/ledger").get_json()["balanced"] is True
    with pytest.raises(BackupError, match="Redis is not empty"):
        restore(empty, tmp_path)


@pytest.mark.parametrize("step", ["begin", "write", "note_costs", "lpush", "enqueue"])
def test_a_restoration_that_is_killed_shows_no_job(
    settings: Settings,
    client: FlaskClient,
    empty: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    """Wherever it ends; the same backup can be restored then, and no other one."""
    ids = [*upload_bulk(client, 20), upload(client)]
    make_backup(settings, tmp_path / "one")
    upload(client)
    make_backup(settings, tmp_path / "two")
    owner: type = Redis if step == "lpush" else Restoration
    original = getattr(owner, step)

    def cut_off(*arguments: Any) -> None:
        original(*arguments)
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(owner, step, cut_off)
        with pytest.raises(SystemExit):
            restore(empty, tmp_path / "one")
    restored = JobStore(connect(empty.redis_url.get_secret_value()))
    assert not restored.client.exists(*keys.PENDING.values(), *QUEUES.values())
    with pytest.raises(BackupError, match="another backup"):
        restore(empty, tmp_path / "two")
    restore(empty, tmp_path / "one")
    assert states(restored, ids) == {JobState.QUEUED: 21}
    assert messages_of(restored.client) == [ids[20:], ids[:16], ids[16:20]]
    assert not [key for key in restored.client.scan_iter("*") if key.startswith(keys.RESTORATION)]
    assert_balanced(restored)
    assert create_app(empty).test_client().get("/v1/ledger").get_json()["balanced"] is True


def test_damage_is_found_before_anything_is_written(
    settings: Settings, client: FlaskClient, jobs: JobStore, empty: Settings, tmp_path: Path
) -> None:
    """The sentence names the files; the rest can be restored, and its ledger balances."""
    ids = [upload(client) for _ in range(3)]
    files = [*make_backup(settings, tmp_path).files(Target(str(tmp_path), make=False))]
    image = next(tmp_path.rglob(f"{ids[0]}.jpeg"))
    image.write_bytes(image.read_bytes()[:-1] + b"!")
    next(tmp_path.rglob(f"{ids[1]}.jpeg")).unlink()
    with pytest.raises(BackupError, match=f"2 of {len(files)} files of the backup are damaged or missing"):
        restore(empty, tmp_path)
    target = connect(empty.redis_url.get_secret_value())
    assert not target.dbsize()
    restore(empty, tmp_path, skip_damaged=True)
    assert states(JobStore(target), ids) == {JobState.QUEUED: 3}

    (listing,) = tmp_path.glob("redis-*.gz")
    listing.write_bytes(listing.read_bytes()[:-9])
    with pytest.raises(BackupError, match=f"{listing.name} is not what was written"):
        restore(database(settings, 3), tmp_path)
    (tmp_path / MANIFEST).write_text("{}")
    with pytest.raises(BackupError, match="cannot be read"):
        restore(database(settings, 3), tmp_path)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(BackupError, match="no complete backup"):
        restore(database(settings, 3), tmp_path)


def test_a_backup_that_was_cut_off_is_continued(
    settings: Settings, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target keeps the previous backup, and what was copied is not copied again."""
    upload(client)
    first = make_backup(settings, tmp_path)
    job_id = upload(client)
    monkeypatch.setattr(Manifest, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make_backup(settings, tmp_path)
    monkeypatch.undo()
    image = next(tmp_path.rglob(f"{job_id}.jpeg"))
    copied = image.stat().st_mtime_ns
    assert Manifest.read(Target(str(tmp_path), make=False)) == first
    manifest = make_backup(settings, tmp_path)
    assert (manifest.waiting, image.stat().st_mtime_ns) == (2, copied)
    assert len(list(tmp_path.glob("*.gz"))) == 2


def test_wrong_places(
    settings: Settings, client: FlaskClient, empty: Settings, jobs: JobStore, tmp_path: Path
) -> None:
    """A sentence says what is there instead, and nothing of it is touched."""
    runner = CliRunner()

    def said(command: Any, place: object, of: Settings = settings) -> str:
        result = runner.invoke(command, [str(place)], obj=lambda: of)
        assert result.exit_code == 1, result.output
        return str(result.stderr)

    ensure_bucket(empty)
    assert "never been started" in said(backup_command, tmp_path / "none", empty)
    upload(client)
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes").write_text("mine")
    assert "holds other files" in said(backup_command, other)
    assert "is no folder" in said(backup_command, other / "notes")
    assert "name a folder, or s3://" in said(backup_command, "ftp://host/path")
    assert "is no folder" in said(restore_command, tmp_path / "missing", empty)
    assert "no complete backup" in said(restore_command, other, empty)

    assert runner.invoke(backup_command, [str(tmp_path / "b")], obj=lambda: settings).exit_code == 0
    assert "Redis is not empty" in said(restore_command, tmp_path / "b")
    WorkerRegistry(connect(empty.redis_url.get_secret_value())).seen("worker@host")
    assert "worker@host" in said(restore_command, tmp_path / "b", empty)
    full = empty.model_copy(update={"redis_url": database(settings, 3).redis_url})
    used = full.model_copy(update={"s3_bucket": settings.s3_bucket})
    ObjectStore(used).delete_many([".installation"])
    assert "The bucket is not empty" in said(restore_command, tmp_path / "b", used)
    ObjectStore(used).put(".installation", b"01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert "another installation" in said(restore_command, tmp_path / "b", used)
    jobs.client.set(keys.INSTALLATION, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    assert "backup of another installation" in said(backup_command, tmp_path / "b")


def test_a_user_with_few_rights(
    settings: Settings, client: FlaskClient, jobs: JobStore, empty: Settings, tmp_path: Path
) -> None:
    """Backup, restoration and recovery need four rights besides those of the programs, as documented."""
    more = re.search(
        r"needs `(\+scan[^`]*)`\s+besides", (REPOSITORY / "docs" / "operations.md").read_text("utf-8")
    )
    assert more
    rules = [*acl_rules().split(), *more[1].split()]
    jobs.client.execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pass", *rules)  # type: ignore[no-untyped-call]
    try:
        source, target = (
            one.model_copy(
                update={
                    "redis_url": SecretStr(one.redis_url.get_secret_value().replace("//", "//limited:pass@"))
                }
            )
            for one in (settings, empty)
        )
        ids = [*upload_bulk(client, 20), upload(client)]
        settle(jobs, ids[:5])
        make_backup(source, tmp_path)
        restore(target, tmp_path)
        assert Recovery(target, lambda _: None, dry_run=False).run(0).enqueued == 0
    finally:
        jobs.client.acl_deluser("limited")
    assert_balanced(JobStore(connect(empty.redis_url.get_secret_value())))


def test_a_bucket_as_the_place(
    settings: Settings, client: FlaskClient, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys come from the AWS variables of the environment."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", settings.s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", settings.s3_access_key.get_secret_value())
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", settings.s3_secret_key.get_secret_value())
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    job_id = upload(client)
    other = database(settings, 4)
    ensure_bucket(other)
    place = f"s3://{other.s3_bucket}/some/where"
    make_backup(settings, place)
    assert make_backup(settings, place).waiting == 1
    restore(empty, place)
    restored = JobStore(connect(empty.redis_url.get_secret_value())).read(job_id)
    assert restored is not None
    assert ObjectStore(empty).get(restored.image_key)
