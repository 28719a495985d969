"""The secrets of a data folder."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from infra.local.credentials import load_credentials, write_private
from infra.local.errors import FolderError


def test_made_once_and_read_ever_after(tmp_path: Path) -> None:
    """The same folder keeps its secrets; another folder has others."""
    credentials = load_credentials(tmp_path / "credentials.json")
    assert load_credentials(tmp_path / "credentials.json") == credentials
    assert load_credentials(tmp_path / "other.json") != credentials
    assert len(credentials.redis_password) >= 32


def test_only_the_owner_may_read_them(tmp_path: Path) -> None:
    """The file's mode is 0600 from its first byte on."""
    load_credentials(tmp_path / "credentials.json")
    assert stat.S_IMODE((tmp_path / "credentials.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"redis_password": "a"}'])
def test_a_damaged_file_is_not_replaced(tmp_path: Path, text: str) -> None:
    """Making new secrets would lock the old data away, so a damaged file is an error."""
    path = tmp_path / "credentials.json"
    path.write_text(text)
    with pytest.raises(FolderError, match="restore the file"):
        load_credentials(path)
    assert path.read_text() == text


def test_writing_again_replaces_the_whole_text(tmp_path: Path) -> None:
    """A draft left by a crash is no obstacle."""
    path = tmp_path / "file"
    path.with_name("file.new").touch()
    write_private(path, "one")
    write_private(path, "two")
    assert path.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
