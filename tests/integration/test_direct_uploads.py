"""Direct uploads: bytes go from the client to a real S3 server, and the API makes jobs of what arrived."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from ulid import ULID

from api.app import create_app
from api.ingest.announcement import Announcement
from core.bucket import ensure_bucket
from core.errors import ObjectNotFoundError, StorageUnavailableError
from core.ids import TIME_DIGITS
from core.image_header import MAX_BYTES
from core.jobs import JobState, Outcome
from core.redis.installation import OBJECT
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.redis.upload_secret import UploadSecret
from core.settings import Settings
from core.storage import ObjectStore
from tests.conftest import environment_of
from tests.support import seaweedfs
from tests.support.direct_uploads import (
    CAMERA,
    announce,
    complete,
    described,
    kinds,
    object_key,
    public,
    put,
    received,
    send,
    send_many,
)
from tests.support.images import encoded, jpeg, pattern
from tests.support.servers import Server, small_api, wait_until
from tests.support.stream import finish
from worker.periodic.retention import Sweep


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Settings with direct uploads to the local S3 server, which clients know by another name."""
    return settings.model_copy(update={"s3_public_endpoint": public(settings.s3_endpoint)})


@pytest.fixture(scope="module")
def seaweed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The S3 server of docker-compose.yml."""
    server = seaweedfs.make_server(tmp_path_factory.mktemp("seaweedfs"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(params=["rclone", "seaweedfs"])
def storage(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """Settings for each of the S3 servers that come with the project."""
    if request.param == "rclone":
        return settings
    endpoint = f"http://127.0.0.1:{request.getfixturevalue('seaweed').port}"
    made = settings.model_copy(
        update={
            "s3_endpoint": endpoint,
            "s3_public_endpoint": public(endpoint),
            "s3_access_key": SecretStr(seaweedfs.ACCESS_KEY),
            "s3_secret_key": SecretStr(seaweedfs.SECRET_KEY),
        }
    )
    wait_until(lambda: _has_bucket(made), "the server to be ready")
    ObjectStore(made).delete_many([OBJECT])  # as in tests.conftest
    return made


def _has_bucket(settings: Settings) -> bool:
    try:
        ensure_bucket(settings)
        ObjectStore(settings).ping()
    except StorageUnavailableError:
        return False
    return True


def test_images_go_from_the_client_to_storage_and_are_classified(
    storage: Settings, jobs: JobStore, start_worker: Callable[..., Server]
) -> None:
    """Each with its camera and times; the job's image is the object that was put, as one object."""
    client = create_app(storage).test_client()
    images = [
        jpeg(1),
        encoded(pattern(seed=2), "PNG"),
        encoded(pattern(seed=3), "WEBP"),
        encoded(pattern(640, 480, seed=4), progressive=True),
        encoded(pattern(seed=5), exif=b"Exif\0\0" + bytes(60_000), icc_profile=bytes(60_000)),
    ]
    types = ["image/jpeg", "image/png", "image/webp", "image/jpeg", "image/jpeg"]
    files = [
        {"size": len(data), "media_type": kind, "camera": CAMERA, "captured_at": "2026-01-31T07:15:00Z"}
        for data, kind in zip(images, types, strict=True)
    ]
    slots = announce(client, *files)
    assert [put(slot, data) for slot, data in zip(slots, images, strict=True)] == [200] * 5
    found = [item["job"] for item in complete(client, [slot["id"] for slot in slots])]
    assert [job["state"] for job in found] == ["queued"] * 5
    assert [job["queue"]["ahead"] for job in found] == list(range(5))
    assert {(job["camera"], job["captured_at"]) for job in found} == {(CAMERA, "2026-01-31T07:15:00.000Z")}
    ids = [job["id"] for job in found]
    start_worker(
        WASTESTREAM_S3_ENDPOINT=storage.s3_endpoint,
        WASTESTREAM_S3_ACCESS_KEY=storage.s3_access_key.get_secret_value(),
        WASTESTREAM_S3_SECRET_KEY=storage.s3_secret_key.get_secret_value(),
    )
    finish(jobs, ids)
    assert [client.get(f"/v1/jobs/{job_id}/image").data for job_id in ids] == images


def test_the_url_binds_what_was_announced(storage: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another size, type, path or signature, none, and one that has expired: the S3 server rejects it."""
    client = create_app(storage).test_client()
    data = jpeg()
    slot, other = announce(client, described(data), described(data))
    denied = {400, 403}
    assert put(slot, data[:-1]) in denied
    assert put(slot, data + b"x") in denied
    assert put(slot, data, **{"Content-Type": "image/png"}) in denied
    elsewhere = slot["url"].replace(urlsplit(slot["url"]).path, urlsplit(other["url"]).path)
    for url in (elsewhere, slot["url"].partition("?")[0], slot["url"][:-4] + "0000"):
        assert put({**slot, "url": url}, data) in denied
    chunks = httpx.put(slot["url"], content=iter([data]), headers=slot["headers"], trust_env=False)
    assert chunks.status_code in denied
    monkeypatch.setattr("api.ingest.direct.URL_SECONDS", 1)
    (brief,) = announce(create_app(storage).test_client(), described(data))
    wait_until(lambda: put(brief, data) in denied, "the URL to expire")
    assert kinds(complete(client, [slot["id"]])) == [(404, "upload-missing")]


def test_each_upload_has_its_own_outcome(storage: Settings, jobs: JobStore) -> None:
    """Good and bad ones in one call, on servers that check nothing of what is put."""
    client = create_app(storage).test_client()
    objects = ObjectStore(storage)
    large = jpeg() + bytes(200_000)
    contents = {  # what is in storage, what was announced, and the outcome
        "good": (jpeg(), described(jpeg()), (202, "")),
        "shorter": (jpeg()[:-1], described(jpeg()), (422, "size-mismatch")),
        "longer": (large, described(large[:-1]), (422, "size-mismatch")),
        "much longer": (bytes(MAX_BYTES + 1), described(jpeg()), (422, "size-mismatch")),
        "empty": (b"", described(jpeg()), (422, "size-mismatch")),
        "no image": (b"x" * 200_000, described(b"x" * 200_000), (415, "unsupported-image")),
        "another type": (
            jpeg(),
            {"size": len(jpeg()), "media_type": "image/png"},
            (415, "media-type-mismatch"),
        ),
        "damaged": (jpeg()[:20], described(jpeg()[:20]), (422, "damaged-image")),
        "without pixels": (_without_pixels(), described(_without_pixels()), (422, "damaged-image")),
        "huge": (_of_size(60_000, 60_000), described(_of_size(60_000, 60_000)), (422, "image-too-large")),
        "never arrived": (None, described(jpeg()), (404, "upload-missing")),
    }
    slots = announce(client, *(announced for _, announced, _ in contents.values()))
    for slot, (data, _, _) in zip(slots, contents.values(), strict=True):
        if data is not None:
            objects.put(object_key(storage, slot), data)
    items = complete(client, [slot["id"] for slot in slots])
    assert dict(zip(contents, kinds(items), strict=True)) == {
        name: outcome for name, (_, _, outcome) in contents.items()
    }
    assert received(jobs) == 1
    late = list(contents).index("never arrived")
    assert put(slots[late], jpeg()) == 200
    assert kinds(complete(client, [slots[late]["id"]])) == [(202, "")]
    assert received(jobs) == 2


def _of_size(width: int, height: int) -> bytes:
    """Return a JPEG whose header states another size."""
    data = jpeg()
    frame = data.index(b"\xff\xc0") + 5
    return data[:frame] + height.to_bytes(2) + width.to_bytes(2) + data[frame + 4 :]


def _without_pixels() -> bytes:
    """Return a JPEG larger than what is fetched first, whose segments never end."""
    data = jpeg()
    return data[:2] + b"\xff\xe5\xff\xff".ljust(65_537, b"\0") * 3


def test_an_upload_is_completed_once(client: FlaskClient, settings: Settings, jobs: JobStore) -> None:
    """Again, twice in a call, in several calls at a time, in another process, when settled: the same job."""
    ids = send_many(client, settings, [described(jpeg())] * 40)
    other = create_app(settings).test_client()
    overlapping = [ids[begin : begin + 25] for begin in (0, 5, 10, 15)]
    # Made one after the other: CPython 3.11 sometimes fails when threads parse code at once.
    clients = [create_app(settings).test_client() for _ in overlapping]
    with ThreadPoolExecutor(4) as threads:
        calls = list(threads.map(complete, clients, overlapping))
    made = {item["upload"]: item["job"]["id"] for items in calls for item in items}
    assert all(item["job"]["id"] == made[item["upload"]] for items in calls for item in items)
    assert received(jobs) == jobs.pending() == len(set(made.values())) == 40
    first, second = complete(other, [ids[0], ids[0]])
    assert first == second
    assert first["job"]["id"] == made[ids[0]]
    jobs.settle([Outcome(made[ids[0]], JobState.FAILED, error="x")], "m")
    (settled,) = complete(client, [ids[0]])
    assert (settled["job"]["state"], settled["job"]["queue"]) == ("failed", None)
    assert received(jobs) == 40


def test_uploads_of_two_calls_at_a_time_are_all_accepted(
    client: FlaskClient, settings: Settings, jobs: JobStore
) -> None:
    """One call finds no job of an upload that another then completes: it accepts the others all the same."""
    ids = send_many(client, settings, [described(jpeg())] * 5)
    uploads = client.application.extensions["wastestream"].direct_uploads
    secret = UploadSecret(jobs.client).read()
    announced = [found for each in ids if (found := Announcement.opened(each, secret)) is not None]
    arrivals = uploads._arrivals.check(announced)
    complete(client, ids[1:3])
    results = [result for _, result in uploads._accept(arrivals, None)]
    assert [result.ids for result in results] == [[each.job_id] for each in announced]
    assert received(jobs) == jobs.pending() == 5


def test_an_api_that_is_killed_loses_and_doubles_nothing(
    settings: Settings, jobs: JobStore, tmp_path: Path
) -> None:
    """Killed while it accepts: a repeated call has a job for each upload, and each is queued."""
    variables = environment_of(settings) | {"WASTESTREAM_S3_PUBLIC_ENDPOINT": settings.s3_public_endpoint}
    client = create_app(settings).test_client()
    ids = send_many(client, settings, [described(jpeg())] * 200)
    with ThreadPoolExecutor(1) as thread, small_api(variables, tmp_path, places=4, waiting=1) as port:
        url = f"http://127.0.0.1:{port}/v1/uploads/complete"
        call = thread.submit(httpx.post, url, json={"uploads": ids}, trust_env=False, timeout=30)
        wait_until(lambda: jobs.pending() > 0 or call.done(), "the first jobs")
    made = {item["job"]["id"] for item in complete(client, ids)}
    assert received(jobs) == jobs.pending() == len(made) == 200


def test_a_late_upload_is_listed_and_can_be_sent_again(
    client: FlaskClient, objects: ObjectStore, jobs: JobStore
) -> None:
    """By the time of its announcement, which is long before that of its completion."""
    (slot,) = announce(client, described(jpeg(), camera="belt"))
    secret = UploadSecret(jobs.client).read()
    announcement = Announcement.opened(slot["id"], secret)
    assert announcement is not None
    early = str(ULID.from_timestamp(time.time() - 1500))
    late = replace(announcement, job_id=early, shard=early[TIME_DIGITS:])
    objects.put(late.object_key, jpeg())
    (item,) = complete(client, [late.sealed(secret)])
    before = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
    page = client.get("/v1/jobs", query_string={"to": before}).get_json()
    assert [job["id"] for job in page["jobs"]] == [item["job"]["id"]] == [early]
    jobs.settle([Outcome(early, JobState.FAILED, error="x")], "m")
    again = client.post(f"/v1/jobs/{early}/retry")
    assert (again.status_code, again.get_json()["retry_of"]) == (202, early)
    assert client.get(f"/v1/jobs/{again.get_json()['id']}/image").data == jpeg()


def test_idempotency_keys_stand_for_the_image(client: FlaskClient, jobs: JobStore) -> None:
    """The same key again is a duplicate and gives the same job; with another size it is a mistake."""
    first, second = (send(client, jpeg(), idempotency_key="k", camera="belt") for _ in range(2))
    (made,), (again,) = complete(client, [first]), complete(client, [second])
    assert made["job"] == again["job"]
    assert complete(client, [second])[0]["job"]["id"] == made["job"]["id"]
    assert Ledger(jobs.client).balance().counts["duplicates"] == 1
    other = send(client, jpeg() + b"x", idempotency_key="k", camera="belt")
    assert kinds(complete(client, [other])) == [(422, "idempotency-conflict")]
    together = [send(client, jpeg(), idempotency_key="t") for _ in range(2)]
    one, two = complete(client, together)
    assert one["job"]["id"] == two["job"]["id"]
    assert received(jobs) == 2


def test_an_image_is_too_old_from_its_announcement_or_capture(client: FlaskClient, jobs: JobStore) -> None:
    """`max_age` counts as that of other uploads."""
    now = datetime.now(UTC)
    captured = (now - timedelta(seconds=30)).isoformat()
    ids = [
        send(client, jpeg(), max_age=60, captured_at=captured),
        send(client, jpeg(), max_age=60),
        send(client, jpeg()),
    ]
    expires = [item["job"]["expires_at"] for item in complete(client, ids)]
    seconds = [(datetime.fromisoformat(text) - now).total_seconds() for text in expires[:2]]
    assert seconds[0] == pytest.approx(30, abs=0.01)
    assert 60 <= seconds[1] <= 70
    assert expires[2] is None


def test_uploads_that_nobody_completes_go_with_retention(
    client: FlaskClient, settings: Settings, objects: ObjectStore, jobs: JobStore
) -> None:
    """As other images: those of queued jobs stay."""
    done, left = (send(client, jpeg()) for _ in range(2))
    (item,) = complete(client, [done])
    job = jobs.read(item["job"]["id"])
    assert job is not None
    secret = UploadSecret(jobs.client).read()
    abandoned = Announcement.opened(left, secret)
    assert abandoned is not None
    Sweep(jobs, objects).run(time.time_ns() // 1_000_000 - 60_000)
    assert objects.get(abandoned.object_key) == jpeg()
    Sweep(jobs, objects).run(time.time_ns() // 1_000_000 + 60_000)
    assert objects.get(job.image_key) == jpeg()
    with pytest.raises(ObjectNotFoundError):
        objects.get(abandoned.object_key)
    assert kinds(complete(client, [left])) == [(404, "upload-missing")]


def test_what_replaces_an_image_later_is_not_read(
    client: FlaskClient, objects: ObjectStore, jobs: JobStore
) -> None:
    """If it is larger than any image: a server that does not check sizes may let somebody put it."""
    (item,) = complete(client, [send(client, jpeg())])
    job = jobs.read(item["job"]["id"])
    assert job is not None
    objects.put(job.image_key, bytes(MAX_BYTES + 1))
    assert client.get(f"/v1/jobs/{job.id}/image").status_code == 410
    (found,) = asyncio.run(objects.get_many([job.image_key]))
    assert isinstance(found, ObjectNotFoundError)
