"""Backups on full disks and in folders of others: a sentence says what to do, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from flask.testing import FlaskClient

from api.backup import catalog as catalogs
from api.backup.catalog import BackupCatalog
from api.backup.command import backup, recover, restore
from api.backup.create import Backup
from api.backup.manifest import Manifest, StoredFile
from api.backup.target import Target
from core.errors import BackupError
from core.jobs import JobState
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.conftest import environment_of
from tests.support.backups import database, make_backup, remove_earlier
from tests.support.charts import pods
from tests.support.disks import fill, small_disk
from tests.support.servers import REPOSITORY
from tests.support.stream import states, upload, upload_bulk


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 1 MB."""
    with small_disk("1m") as folder:
        yield folder


def failure(command: Any, settings: Settings, *arguments: str) -> str:
    """Run a command, which must fail with one sentence; return it."""
    result = CliRunner().invoke(command, arguments, obj=lambda: settings)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    return result.stderr.splitlines()[-1]


def test_a_full_temporary_folder_is_named(
    settings: Settings, client: FlaskClient, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By backup, restore and recover, with what to do; the place keeps its previous backup."""
    upload(client)
    place, empty = tmp_path / "backup", database(settings, 1)
    first = make_backup(settings, place)
    upload_bulk(client, 20)
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    begun = Backup(settings, Target(str(place), make=False), lambda _: None)
    fill(disk)
    sentence = f"Temporary files cannot be written in {disk}"

    with pytest.raises(BackupError, match=rf"{sentence} \(No space left on device\)"):
        begun.run()
    filler = fill(disk)  # as it has ended
    assert Manifest.read(Target(str(place), make=False)) == first
    for said in (
        failure(backup, settings, str(place)),
        failure(backup, settings, str(tmp_path / "new")),
        failure(restore, empty, str(place)),
        failure(recover, settings, "--dry-run"),
    ):
        assert said.startswith(f"Error: {sentence}")
        assert "name a folder of a larger disk in the variable TMPDIR" in said
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert Manifest.read(Target(str(place), make=False)) == first
    assert "no complete backup" in failure(restore, empty, str(tmp_path / "new"))
    assert make_backup(settings, place).waiting == 21
    assert [*disk.iterdir()] == [filler]


def test_a_catalog_may_outgrow_its_disk(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It begins with room, and its rows leave memory for the disk until that is full."""
    monkeypatch.setattr(catalogs, "_CACHE", "10")  # pages
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    files = (StoredFile(f"images/belt/{number}.jpeg", number, "0" * 64) for number in range(20_000))
    sentence = f"cannot be written in {disk} .database or disk is full"
    with closing(BackupCatalog()) as catalog, pytest.raises(BackupError, match=sentence):
        deque(map(catalog.keep, files), maxlen=0)
    with closing(BackupCatalog()) as catalog, pytest.raises(BackupError, match=sentence):
        catalog.note_files((f"objects/images/belt/{number}.jpeg", number) for number in range(50_000))
    assert not list(disk.iterdir())


def test_a_full_place_keeps_its_backup(settings: Settings, client: FlaskClient, disk: Path) -> None:
    """The sentence names the place; with room the next backup continues."""
    upload(client)
    first = make_backup(settings, disk)
    upload_bulk(client, 20)
    filler = fill(disk)
    said = failure(backup, settings, str(disk))
    assert f"{disk} cannot be read or written" in said
    assert "No space left" in said
    assert Manifest.read(Target(str(disk), make=False)) == first
    filler.unlink()
    assert make_backup(settings, disk).waiting == 21


@contextmanager
def of_another_user(folder: Path) -> Iterator[None]:
    """Let a folder be somebody else's, as a new one is in a container."""
    if os.geteuid() == 0:
        os.chown(folder, 10001, 10001)
        yield
        os.chown(folder, 0, 0)
    else:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)


def run(settings: Settings, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of a container; root has none of its rights there."""
    without = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return subprocess.run(
        [*without, sys.executable, *command[1:]],
        cwd=REPOSITORY,
        env={**os.environ, **environment_of(settings), "WASTESTREAM_S3_BUCKET": settings.s3_bucket},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_of_containers(
    settings: Settings, client: FlaskClient, objects: ObjectStore, tmp_path: Path
) -> None:
    """Compose and the chart run the same; as processes they back up, restore and recover.

    A folder of somebody else is named, with what to do.
    """
    remove_earlier(objects)  # `recover` would count what earlier tests archived.
    compose = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text(encoding="utf-8"))
    command = compose["services"]["backup"]["command"]
    assert [pod["containers"][0]["command"] for name, pod in pods("fixed") if name == "belts-backup"] == [
        command
    ]
    ids = upload_bulk(client, 20)
    place = tmp_path / "backup"
    place.mkdir(mode=0o755)
    *create, _ = command
    *module, _ = create

    with of_another_user(place):
        done = run(settings, *create, str(place))
    user = os.geteuid()
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: The user {user}, who runs this, may not write in {place}. Give that user the folder "
        f"(chown -R {user} {place}), or run this as its owner.\n"
    )
    done = run(settings, *create, str(place))
    assert (done.returncode, "20 waiting and 0 settled jobs" in done.stdout) == (0, True), done.stderr
    empty = database(settings, 1)
    done = run(empty, *module, "restore", str(place))
    assert (done.returncode, "20 waiting and 0 settled jobs" in done.stdout) == (0, True), done.stderr
    assert states(JobStore(connect(empty.redis_url.get_secret_value())), ids) == {JobState.QUEUED: 20}
    done = run(empty, *module, "recover")
    assert (done.returncode, done.stdout.startswith("Recovered 0 jobs")) == (0, True), done.stderr
