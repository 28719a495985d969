"""The data folder: permissions, and errors of an unusable folder."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from infra.local.errors import FolderBusyError, FolderError
from infra.local.folder import DataFolder


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    """A data folder that is not there yet is made, parents too."""
    folder = DataFolder(tmp_path / "a" / "b")
    folder.make()
    assert folder.logs.is_dir()


def test_a_file_in_its_place_is_named(tmp_path: Path) -> None:
    """A file in place of the folder is rejected by name."""
    (tmp_path / "data").touch()
    with pytest.raises(FolderError, match=r"data is not a folder; .*--data-dir"):
        DataFolder(tmp_path / "data").make()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc cannot be written even by root")
def test_an_unwritable_place_is_named() -> None:
    """An unwritable folder is rejected by name."""
    with pytest.raises(FolderError, match=r"/proc/wastestream cannot be written .*--data-dir"):
        DataFolder(Path("/proc/wastestream")).make()


def _old(folder: Path) -> DataFolder:
    """Make a data folder as older versions did, open to all."""
    (folder / "objects" / "wastestream" / "images").mkdir(parents=True)
    (folder / "redis").mkdir()
    (folder / "objects" / "wastestream" / "images" / "a.jpeg").touch()
    (folder / "redis" / "appendonly.aof").touch()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return DataFolder(folder)


def _open_to_others(folder: Path) -> list[str]:
    return [path.name for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


def test_the_folder_of_an_older_version_is_closed_to_others(tmp_path: Path) -> None:
    """Its contents, then the folder itself; the owner's rights stay."""
    folder = _old(tmp_path / "data")
    folder.make()
    assert _open_to_others(folder.path) == []
    assert stat.S_IMODE((folder.redis / "appendonly.aof").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.objects.stat().st_mode) == 0o700


def test_a_folder_of_others_too_stays_theirs(tmp_path: Path) -> None:
    """In a folder with other files, such as /tmp, only our files are closed."""
    folder = _old(tmp_path / "data")
    (folder.path / "letter").touch(0o644)
    (folder.path / "letter").chmod(0o644)
    folder.make()
    assert _open_to_others(folder.path) == ["data", "letter"]


def test_one_supervisor_at_a_time(tmp_path: Path) -> None:
    """While one holds the folder, another is told which process does."""
    folder = DataFolder(tmp_path)
    with folder.lock():
        assert folder.supervisor() == os.getpid()
        with pytest.raises(FolderBusyError, match=f"process {os.getpid()}"), folder.lock():
            pass
    assert folder.supervisor() is None
    with folder.lock():
        assert folder.supervisor() == os.getpid()


def test_nothing_runs_on_a_folder_never_used(tmp_path: Path) -> None:
    """Asking a folder that does not exist makes nothing."""
    assert DataFolder(tmp_path / "none").supervisor() is None
    assert not (tmp_path / "none").exists()
