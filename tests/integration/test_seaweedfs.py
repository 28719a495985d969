"""SeaweedFS, as in containers: features that the local S3 server lacks, and no other difference."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from pydantic import SecretStr
from ulid import ULID

from api.app import create_app
from core.bucket import ensure_bucket
from core.errors import StorageUnavailableError
from core.jobs import Job
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import image_key, job_id_of
from core.storage import ObjectStore
from tests.support import seaweedfs
from tests.support.images import jpeg
from tests.support.servers import Server, wait_until
from tests.support.stream import finish, upload, upload_bulk
from worker.periodic.retention import Sweep

CAMERA = "00:1A:2B, B\u00e4nd 2 (links)@\u540d"

OTHER = {"ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server, started."""
    server = seaweedfs.make_server(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(settings: Settings, server: Server) -> Settings:
    """Settings for it, the bucket made."""
    changed = settings.model_copy(
        update={
            "s3_endpoint": f"http://127.0.0.1:{server.port}",
            "s3_access_key": SecretStr(seaweedfs.ACCESS_KEY),
            "s3_secret_key": SecretStr(seaweedfs.SECRET_KEY),
        }
    )
    wait_until(lambda: _has_bucket(changed), "the server to be ready")
    return changed


def _has_bucket(settings: Settings) -> bool:
    try:
        ensure_bucket(settings)
        ObjectStore(settings).ping()
    except StorageUnavailableError:
        return False
    return True


def _client(settings: Settings) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key.get_secret_value(),
        aws_secret_access_key=settings.s3_secret_key.get_secret_value(),
    )


def _rules(settings: Settings) -> dict[str, dict[str, Any]]:
    rules = _client(settings).get_bucket_lifecycle_configuration(Bucket=settings.s3_bucket)["Rules"]
    return {rule["ID"]: rule for rule in rules}


def test_the_bucket_forgets_old_images_by_itself(settings: Settings) -> None:
    """A day after the sweep would, and as often as settings say; rules of others stay."""
    days = math.ceil(settings.image_retention_hours / 24) + 1
    (rule,) = _rules(settings).values()
    assert (rule["Status"], rule["Filter"]["Prefix"], rule["Expiration"]["Days"]) == (
        "Enabled",
        "images/",
        days,
    )
    _client(settings).put_bucket_lifecycle_configuration(
        Bucket=settings.s3_bucket, LifecycleConfiguration={"Rules": [OTHER, rule]}
    )
    ensure_bucket(settings.model_copy(update={"image_retention_hours": 24.0}))
    rules = _rules(settings)
    assert {name: entry["Expiration"]["Days"] for name, entry in rules.items()} == {"logs": 1, rule["ID"]: 2}


def test_a_session_token_goes_with_both_clients_or_with_none(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rule of another storage is left out; this server refuses rules that it did not make."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of another storage")
    ensure_bucket(settings)
    ObjectStore(settings).check()
    temporary = settings.model_copy(update={"s3_session_token": SecretStr("of this one, they say")})
    for call in (ensure_bucket, lambda settings: ObjectStore(settings).check()):
        with pytest.raises(StorageUnavailableError, match="Storage denies access"):
            call(temporary)


def test_images_are_classified_and_given_back(
    settings: Settings, jobs: JobStore, start_worker: Callable[..., Server]
) -> None:
    """Single and bulk uploads, through a worker, and the bytes as they came."""
    client = create_app(settings).test_client()
    ids = [upload(client), *upload_bulk(client, 40)]
    start_worker()
    finish(jobs, ids)
    assert client.get(f"/v1/jobs/{ids[0]}/image").data == jpeg()


def test_what_was_answered_outlives_a_kill(settings: Settings, server: Server) -> None:
    """SIGKILL right after the answers: every image is there when the server is back."""
    objects = ObjectStore(settings)
    images = [(f"images/belt/2026/01/31/{number}.jpeg", jpeg(number)) for number in range(50)]
    objects.put_many(images)
    server.kill()
    server.start()
    wait_until(lambda: _has_bucket(settings), "the server to be ready again", 60)
    assert [objects.get(key) for key, _ in images] == [data for _, data in images]


def test_the_sweep_removes_what_is_due(settings: Settings, jobs: JobStore) -> None:
    """Folders and pages are listed as the local server lists them."""
    objects, now = ObjectStore(settings), datetime.now(UTC)
    old, fresh = (
        Job(str(ULID.from_datetime(now - timedelta(days=days))), CAMERA, "jpeg", 1) for days in (9, 1)
    )
    many = [image_key(str(ULID.from_datetime(now - timedelta(days=30))), "c", "jpeg") for _ in range(1100)]
    objects.put_many([(key, b"x") for key in (old.image_key, fresh.image_key, *many)])
    limit = round((now - timedelta(days=7)).timestamp() * 1000)
    assert Sweep(jobs, objects).run(limit) >= 1101
    left = {job_id_of(key) for page in objects.pages(f"images/{CAMERA}") for key in page}
    assert left == {fresh.id}
    assert [page for page in objects.pages("images/c") if page] == []
