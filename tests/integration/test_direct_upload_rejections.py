"""Direct uploads that are rejected: ids, limits, mistakes, and storage that is down."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from api.app import create_app
from api.ingest.announcement import Announcement
from core.image_header import MAX_BYTES
from core.jobs import JobState, Outcome
from core.messages import QUEUES
from core.redis import keys as names
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from core.redis.upload_secret import UploadSecret
from core.settings import Settings
from tests.support.direct_uploads import (
    announce,
    complete,
    described,
    kinds,
    public,
    put,
    received,
    send,
    send_many,
)
from tests.support.images import jpeg
from tests.support.servers import free_port


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with direct uploads to the local S3 server, which clients know by another name."""
    return settings.model_copy(update={"s3_public_endpoint": public(settings.s3_endpoint)})


def test_ids_are_of_their_owner_and_of_this_system(
    client: FlaskClient, settings: Settings, jobs: JobStore
) -> None:
    """Forged, garbled, another key's, announced too long ago: each says so, and makes no job."""
    store = KeyStore(jobs.client)
    mine, theirs = ({"Authorization": f"Bearer {store.create(name, [Scope.INGEST])[1]}"} for name in "ab")
    (slot,) = announce(client, described(jpeg()), **mine)
    assert put(slot, jpeg()) == 200
    secret = UploadSecret(jobs.client).read()
    announcement = Announcement.opened(slot["id"], secret)
    assert announcement is not None
    forged = [
        announcement.sealed(b"another secret"),
        slot["id"][:-1],
        slot["id"] + "A",
        ("B" if slot["id"].startswith("A") else "A") + slot["id"][1:],
        announcement.job_id,
        "",
        "=",
        "\u00e4",
        "AAAA",
    ]
    old = replace(announcement, job_id=str(ULID.from_timestamp(time.time() - 1801)))
    assert kinds(complete(client, forged, **mine)) == [(400, "invalid-upload")] * len(forged)
    assert kinds(complete(client, [slot["id"]], **theirs)) == [(400, "invalid-upload")]
    assert kinds(complete(client, [old.sealed(secret)], **mine)) == [(410, "upload-expired")]
    assert received(jobs) == 0
    (item,) = complete(client, [slot["id"]], **mine)
    assert item["job"]["id"] == announcement.job_id
    assert kinds(complete(client, [slot["id"]], **theirs)) == [(400, "invalid-upload")]
    jobs.client.delete(names.UPLOAD_SECRET)  # as in a Redis that was given up
    assert kinds(complete(client, [slot["id"]], **mine)) == [(400, "invalid-upload")]


def test_a_key_announces_for_its_cameras_only(client: FlaskClient, jobs: JobStore) -> None:
    """Others are named and forbidden, also the one that stands for none; its uploads it completes."""
    _, token = KeyStore(jobs.client).create("belt", [Scope.INGEST], cameras=["line2-*"])
    key = {"Authorization": f"Bearer {token}"}
    (slot,) = announce(client, described(jpeg(), camera="line2-a"), **key)
    for camera in ("line1-a", None):
        files = [described(jpeg(), camera="line2-a"), described(jpeg(), camera=camera)]
        response = client.post("/v1/uploads", json={"files": files}, headers=key)
        assert (response.status_code, response.get_json()["type"]) == (403, "/problems/camera-forbidden")
    assert put(slot, jpeg()) == 200
    assert kinds(complete(client, [slot["id"]], **key)) == [(202, "")]


def test_limits_hold(client: FlaskClient, settings: Settings, jobs: JobStore) -> None:
    """Of the queue, of the key, and of cameras: what goes beyond says so and can be completed later."""
    _, token = KeyStore(jobs.client).create("slow", [Scope.INGEST], rate=0.01, burst=20)
    key = {"Authorization": f"Bearer {token}"}
    ids = send_many(client, settings, [described(jpeg())] * 30, **key)
    response = client.post("/v1/uploads/complete", json={"uploads": ids}, headers=key)
    items = response.get_json()["items"]
    assert kinds(items) == [(202, "")] * 20 + [(429, "rate-limit-exceeded")] * 10
    assert 0 < int(response.headers["Retry-After"]) <= 100
    assert response.headers["RateLimit"].startswith('"images";r=0;')
    assert client.post("/v1/uploads", json={"files": [described(jpeg())]}, headers=key).status_code == 429
    assert received(jobs) == 20

    small = create_app(settings.model_copy(update={"max_queued": 100, "max_cameras": 2})).test_client()
    _, other = KeyStore(jobs.client).create("fast", [Scope.INGEST])
    key = {"Authorization": f"Bearer {other}"}
    files = [described(jpeg(), camera=f"c{number % 3}") for number in range(80)]
    ids = send_many(small, settings, files, **key)
    response = small.post("/v1/uploads/complete", json={"uploads": ids}, headers=key)
    found = Counter(kinds(response.get_json()["items"]))
    assert found[422, "too-many-cameras"] > 20
    assert sum(found.values()) == 80
    assert received(jobs) == 20 + found[202, ""]


def test_a_full_queue_says_when_to_complete(client: FlaskClient, settings: Settings, jobs: JobStore) -> None:
    """Uploads are accepted up to the bound of bulk uploads; the others are told when to come back."""
    small = create_app(settings.model_copy(update={"max_queued": 100})).test_client()
    ids = send_many(small, settings, [described(jpeg())] * 95)
    response = small.post("/v1/uploads/complete", json={"uploads": ids})
    items = response.get_json()["items"]
    assert kinds(items) == [(202, "")] * 90 + [(429, "queue-full")] * 5
    assert "complete the upload again in" in items[-1]["error"]["detail"]
    assert int(response.headers["Retry-After"]) >= 1
    assert small.post("/v1/uploads/complete", json={"uploads": ids}).status_code == 429
    jobs.settle([Outcome(item["job"]["id"], JobState.FAILED, error="x") for item in items[:90]], "m")
    jobs.client.delete(*QUEUES.values())
    assert kinds(complete(create_app(settings).test_client(), ids)) == [(202, "")] * 95
    assert received(jobs) == 95


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "files"),
        ({"files": []}, "files"),
        ({"files": [{"size": 1, "media_type": "image/jpeg", "colour": 1}]}, "files[0].colour"),
        ({"files": [{"media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [{"size": 0, "media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [{"size": "1", "media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [{"size": True, "media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [{"size": 1.5, "media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [{"size": MAX_BYTES + 1, "media_type": "image/jpeg"}]}, "files[0].size"),
        ({"files": [described(b"x"), {"size": 1, "media_type": "image/gif"}]}, "files[1].media_type"),
        ({"files": [described(b"x", camera="a/b")]}, "files[0].camera"),
        ({"files": [described(b"x", captured_at="noon")]}, "files[0].captured_at"),
        ({"files": [described(b"x", captured_at=5)]}, "files[0].captured_at"),
        ({"files": [described(b"x", max_age=0)]}, "files[0].max_age"),
        ({"files": [described(b"x", max_age=1e9)]}, "files[0].max_age"),
        ({"files": [described(b"x", idempotency_key="a b")]}, "files[0].idempotency_key"),
    ],
)
def test_mistakes_name_file_and_member(client: FlaskClient, body: dict[str, Any], named: str) -> None:
    """None of the call's images is announced."""
    response = client.post("/v1/uploads", json=body)
    assert response.status_code == 400
    assert response.get_json()["type"] == "/problems/invalid-body"
    assert named in response.get_json()["detail"]


def test_other_mistakes_say_what_to_do(client: FlaskClient, settings: Settings) -> None:
    """Too many, in the future, no ids, and a server without a public endpoint."""
    many = client.post("/v1/uploads", json={"files": [described(b"x")] * 1001})
    assert (many.status_code, many.get_json()["type"]) == (400, "/problems/too-many-items")
    many = client.post("/v1/uploads/complete", json={"uploads": ["x"] * 1001})
    assert (many.status_code, many.get_json()["type"]) == (400, "/problems/too-many-items")
    future = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    late = client.post("/v1/uploads", json={"files": [described(b"x", captured_at=future)]})
    assert (late.status_code, late.get_json()["type"]) == (422, "/problems/invalid-time")
    for ids in ([], [[None]], ["\ud800"]):
        wrong = client.post("/v1/uploads/complete", json={"uploads": ids})
        assert (wrong.status_code, wrong.get_json()["type"]) == (400, "/problems/invalid-body")
    off = create_app(settings.model_copy(update={"s3_public_endpoint": ""})).test_client()
    for path, body in (("", {"files": [described(b"x")]}), ("/complete", {"uploads": ["x"]})):
        response = off.post(f"/v1/uploads{path}", json=body)
        assert (response.status_code, response.get_json()["type"]) == (404, "/problems/uploads-off")
        assert "WASTESTREAM_S3_PUBLIC_ENDPOINT" in response.get_json()["detail"]


def test_storage_that_is_down_is_no_missing_image(
    client: FlaskClient, settings: Settings, jobs: JobStore
) -> None:
    """503 for the call, which accepts the image when it is repeated."""
    upload_id = send(client, jpeg())
    down = settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    response = create_app(down).test_client().post("/v1/uploads/complete", json={"uploads": [upload_id]})
    assert (response.status_code, response.get_json()["type"]) == (503, "/problems/service-unavailable")
    assert received(jobs) == 0
    assert kinds(complete(client, [upload_id])) == [(202, "")]
