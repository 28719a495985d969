"""Backups on full disks and in folders of others: a sentence says what to do, and nothing is lost."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient

from api.backup.command import backup, recover, restore
from api.backup.create import Backup
from api.backup.manifest import Manifest
from api.backup.target import Target
from core.errors import BackupError
from core.settings import Settings
from tests.support.backups import database, make_backup
from tests.support.disks import fill, small_disk
from tests.support.stream import upload, upload_bulk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder, "1m"):
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
