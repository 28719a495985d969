"""A full disk: named wherever somebody looks, no loss, and everything goes on by itself."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.redis.client import connect
from core.settings import Settings
from infra.local.errors import FolderFullError
from infra.local.folder import DataFolder, lives
from infra.local.logs import rotate
from infra.local.rewrites import SETTING, Rewrites
from tests.support.disks import fill, small_disk
from tests.support.images import jpeg
from tests.support.local import Local
from tests.support.servers import wait_until


@pytest.fixture
def disk() -> Iterator[Path]:
    """A disk of 48 MB."""
    with small_disk("48m") as folder:
        yield folder


def _upload(local: Local) -> tuple[int, dict[str, Any]]:
    """Upload an image; return status and body; 0 without an answer."""
    headers = {"Content-Type": "image/jpeg"}
    request = urllib.request.Request(f"{local.url}/v1/images", data=jpeg(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def _readyz(local: Local) -> dict[str, Any]:
    """Return the parts of `/readyz`."""
    try:
        with urllib.request.urlopen(f"{local.url}/readyz", timeout=20) as response:
            checks: dict[str, Any] = json.load(response)["checks"]
    except urllib.error.HTTPError as error:
        checks = json.load(error)["checks"]
    return checks


def test_a_full_disk_is_named_and_nothing_is_lost(disk: Path) -> None:
    """Uploads are answered 503 that says it; so do `/readyz`, `status` and `up`. With room it goes on."""
    local = Local(disk / "data")
    assert local.up().returncode == 0
    try:
        kept = local.upload()
        redis = local.pid("redis") or 0
        filler = fill(disk)
        wait_until(lambda: "disk is full" in _upload(local)[1].get("detail", ""), "uploads to be rejected")
        assert _upload(local)[0] == 503
        wait_until(lambda: not lives(redis), "Redis to end at its first write")
        assert "disk" in _readyz(local)
        status = local.run("status")
        assert status.returncode == 1
        assert f"The disk of {local.folder.path} is full" in status.stdout
        assert "waiting to start" in status.stdout  # Redis, which the state file still calls ready

        filler.unlink()
        wait_until(lambda: _upload(local)[0] == 202, "uploads to be taken again", 60)
        wait_until(lambda: bool(local.status()["ready"]), "the stack to be ready again")
        assert local.job(kept)["state"] == local.job(local.upload())["state"] == "classified"
        assert local.ledger()["balanced"]
        log = (local.folder.logs / "up.log").read_text()
        assert f"The disk of {local.folder.path} is full" in log
        assert f"The disk of {local.folder.path} has free space again" in log
    finally:
        local.run("down")

    fill(disk)
    rejected = local.up()
    assert rejected.returncode == 1
    assert "is full (No space left on device); free some space on it." in rejected.stderr + rejected.stdout
    assert "Traceback" not in rejected.stderr + rejected.stdout


def test_redis_rewrites_its_file_only_where_there_is_room(disk: Path, settings: Settings) -> None:
    """A rewrite without space would end Redis; the rest of a killed rewrite is removed."""
    url = settings.redis_url.get_secret_value()
    redis, folder = connect(url), DataFolder(disk / "data")
    files = folder.redis / "appendonlydir"
    files.mkdir(parents=True)
    left = folder.redis / "temp-rewriteaof-bg-1.aof"
    left.touch()
    rewrites = Rewrites(url, folder)

    def percentage() -> object:
        rewrites.look()
        return redis.config_get(SETTING)[SETTING]

    redis.config_set(SETTING, 0)
    rewrites.begin()
    assert not left.exists()
    assert percentage() == "100"
    (files / "appendonly.aof.1.base.rdb").write_bytes(bytes(30_000_000))  # of 48 MB
    assert percentage() == "0"
    (files / "appendonly.aof.1.base.rdb").write_bytes(bytes(10_000_000))
    assert percentage() == "100"


def test_a_full_disk_stops_no_housekeeping(disk: Path) -> None:
    """A log that cannot be copied is cut all the same; the folder says that it takes nothing more."""
    folder = DataFolder(disk / "data")
    folder.make()
    log = folder.logs / "api.log"
    log.write_bytes(bytes(1_000_000))
    fill(disk)
    with pytest.raises(FolderFullError, match="free some space on it"):
        folder.check_writable()
    rotate(log, limit=1)
    assert log.stat().st_size == 0
    assert list(folder.logs.iterdir()) == [log]
    folder.check_writable()
