"""The scripts of infra/docker that start Redis and S3, run outside a container."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from infra.local.programs import REDIS
from tests.support.servers import REPOSITORY, Server, free_port, program

PASSWORD = "0a1b2c"  # noqa: S105 - of a server that ends with the test


@pytest.fixture
def redis_in_container(tmp_path: Path) -> Iterator[Server]:
    """The Redis that redis.sh starts, its paths and port changed to ones that this machine has."""
    port = free_port()
    changes = {"/etc/redis.conf": f"{tmp_path}/base.conf", "/tmp/redis.conf": f"{tmp_path}/redis.conf"}  # noqa: S108
    script = tmp_path / "redis.sh"
    script.write_text(_changed(REPOSITORY / "infra/docker/redis.sh", changes))
    changes = {"port 6379": f"port {port}", "dir /data": f"dir {tmp_path}", "bind * -::*": "bind 127.0.0.1"}
    (tmp_path / "base.conf").write_text(_changed(REPOSITORY / "infra/docker/redis.conf", changes))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "redis-server").symlink_to(program(*REDIS))
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {"PATH": path, "REDISCLI_AUTH": PASSWORD}
    server = Server(["/bin/sh", str(script)], tmp_path / "log", environment=environment, port=port)
    server.start()
    yield server
    server.stop()


def _changed(path: Path, changes: dict[str, str]) -> str:
    text = path.read_text()
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    return text


def test_redis_starts_as_configured(redis_in_container: Server) -> None:
    """Redis asks for the password, appends every write to its file, and never evicts."""
    with redis.Redis(port=redis_in_container.port or 0) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(port=redis_in_container.port or 0, password=PASSWORD, decode_responses=True) as client:
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("maxmemory") != {"maxmemory": "0"}


def test_the_redis_password_is_on_no_command_line(redis_in_container: Server) -> None:
    """Redis' command line in `ps` does not contain the password."""
    assert redis_in_container.process is not None
    shown = Path(f"/proc/{redis_in_container.process.pid}/cmdline").read_text()
    assert "redis-server" in shown
    assert PASSWORD not in shown


def run_s3(tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run s3.sh with a `weed` that only prints its arguments and its S3 configuration."""
    weed = tmp_path / "weed"
    weed.write_text(f'#!/bin/sh\necho "$@"\ncat {tmp_path}/s3.json\n')
    weed.chmod(0o755)
    script = _changed(REPOSITORY / "infra/docker/s3.sh", {"/tmp/s3.json": f"{tmp_path}/s3.json"})  # noqa: S108
    return subprocess.run(
        ["/bin/sh", "-c", script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_s3_knows_one_user(tmp_path: Path) -> None:
    """SeaweedFS gets a file with the keys, readable by its user alone, and no key on its command line."""
    keys = {"S3_ACCESS_KEY": "3d4e5f", "S3_SECRET_KEY": "6a7b8c"}
    done = run_s3(tmp_path, **keys)
    arguments, _, configuration = done.stdout.partition("\n")
    (identity,) = json.loads(configuration)["identities"]
    assert identity["credentials"] == [{"accessKey": "3d4e5f", "secretKey": "6a7b8c"}]
    assert "-dir=/data" in arguments
    assert not any(key in arguments for key in keys.values())
    assert (tmp_path / "s3.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("secret", ["", 'with"quote', "with space"])
def test_unusable_secrets_are_rejected(tmp_path: Path, secret: str) -> None:
    """An empty key, or one that would break the configuration, ends the start with a sentence."""
    done = run_s3(tmp_path, S3_ACCESS_KEY="3d4e5f", S3_SECRET_KEY=secret)
    assert done.returncode != 0
    assert "S3_SECRET_KEY" in done.stderr
    assert not (tmp_path / "s3.json").exists()
