"""Bulk uploads whose files have metadata of their own: cameras, times, maximum ages and idempotency keys."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from core.messages import QUEUES, keys_in
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.settings import Settings
from core.shards import IMAGES, object_key
from core.storage import ObjectStore
from tests.support.cuts import lose_answer
from tests.support.images import jpeg
from tests.support.stream import assert_balanced, upload, wait_settled

HOUR_MS = 3_600_000


def send(
    client: FlaskClient, metadata: object, files: Sequence[bytes], headers: dict[str, str] | None = None
) -> TestResponse:
    """Send files after a part `metadata`, which is JSON unless it is bytes already."""
    content = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    parts: list[tuple[str, Any]] = [("metadata", (None, content, "application/json"))]
    parts += [("images", (f"{number}.jpg", data, "image/jpeg")) for number, data in enumerate(files)]
    form = httpx.Request("POST", "http://api", files=parts)
    kind = {"Content-Type": form.headers["Content-Type"]}
    return client.post("/v1/images/bulk", data=form.read(), headers={**kind, **(headers or {})})


def entries(*files: dict[str, Any]) -> dict[str, Any]:
    """Metadata with an entry for each file."""
    return {"files": list(files)}


def items_of(response: TestResponse) -> list[dict[str, Any]]:
    """The outcomes of an accepted call."""
    assert response.status_code == 202, response.text
    items: list[dict[str, Any]] = response.get_json()["items"]
    return items


def assert_rejected(response: TestResponse, status: int, says: str) -> None:
    """Check that the whole call is this problem."""
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    assert says in response.get_json(force=True)["detail"]


def received(jobs: JobStore) -> dict[str, int]:
    """How many images of each camera were received."""
    return {camera: totals.received for camera, totals in Ledger(jobs.client).snapshot()[0].items()}


def duplicates(jobs: JobStore) -> dict[str, int]:
    """How many images of each camera were sent again."""
    return {camera: totals.duplicates for camera, totals in Ledger(jobs.client).snapshot()[0].items()}


def test_one_call_has_frames_of_several_cameras_and_hours(
    client: FlaskClient, jobs: JobStore, start_worker: Callable[..., object]
) -> None:
    """Each file's job has its own camera, time and age; what is left out is as the headers say."""
    now = time.time_ns() // 1_000_000
    taken = [datetime.fromtimestamp((now - hour * HOUR_MS) / 1000, UTC).isoformat() for hour in range(10)]
    described = [
        {"camera": f"belt-{number % 4}", "captured_at": text, "max_age": 24 * 3600, "idempotency_key": None}
        for number, text in enumerate(taken)
    ]
    described[8] = {"max_age": 60}
    described[9] = {}
    headers = {"X-Camera-Id": "spare", "X-Captured-At": taken[9], "X-Max-Age": "7200"}
    items = items_of(send(client, entries(*described), [jpeg(number) for number in range(10)], headers))
    assert [item["file"] for item in items] == [f"{number}.jpg" for number in range(10)]
    found = [job for job in jobs.read_many([item["job"]["id"] for item in items]) if job is not None]
    assert [job.camera for job in found] == [f"belt-{number % 4}" for number in range(8)] + ["spare"] * 2
    assert [job.captured_ms for job in found] == [now - hour * HOUR_MS for hour in (*range(8), 9, 9)]
    ages = [(job.expires_ms or 0) - (job.captured_ms or 0) for job in found]
    assert ages == [24 * HOUR_MS] * 8 + [60_000, 2 * HOUR_MS]
    assert [item["job"]["queue"]["ahead"] for item in items] == list(range(10))

    (message,) = jobs.client.lrange(QUEUES["bulk"], 0, -1)
    assert keys_in(json.loads(message)) == [job.image_key for job in found]
    assert len({object_key(job.image_key) for job in found}) == 1
    shown = [client.get(f"/v1/jobs/{job.id}/image").data for job in found]
    assert shown == [jpeg(number) for number in range(10)]
    start_worker()
    assert wait_settled(jobs, [job.id for job in found]) == {"classified": 8, "expired": 2}
    assert received(jobs) == {"belt-0": 2, "belt-1": 2, "belt-2": 2, "belt-3": 2, "spare": 2}
    assert_balanced(jobs)


def test_a_wrong_value_is_the_outcome_of_its_file(client: FlaskClient, jobs: JobStore) -> None:
    """The sentence names entry and member; the files beside it are accepted."""
    wrong: list[tuple[dict[str, Any], int, str]] = [
        ({"camera": "a/b"}, 400, "files[0].camera: 'a/b' cannot be a camera's id: it holds '/'"),
        ({"camera": ""}, 400, "files[1].camera: '' cannot be a camera's id: it is empty"),
        ({"captured_at": "2026-01-31T08:15:00"}, 400, "files[2].captured_at '2026-01-31T08:15:00' is not"),
        ({"captured_at": "2999-01-01T00:00:00Z"}, 422, "files[3].captured_at 2999-01-01T00:00:00Z is in the"),
        ({"max_age": 0}, 400, "files[4].max_age '0' must be seconds above 0"),
        ({"max_age": 604_801}, 400, "files[5].max_age '604801' must be seconds above 0"),
        ({"idempotency_key": "two words"}, 400, "files[6].idempotency_key must be 1 to 128 visible"),
        ({"idempotency_key": ""}, 400, "files[7].idempotency_key must be 1 to 128 visible"),
    ]
    described = [entry for entry, _, _ in wrong] + [{"camera": "B\u00e4nd 1"}, {}]
    files = [jpeg(number) for number in range(9)] + [b"no image"]
    items = items_of(send(client, entries(*described), files))
    assert [item["status"] for item in items] == [status for _, status, _ in wrong] + [202, 415]
    for item, (_, status, says) in zip(items, wrong, strict=False):
        assert item["error"]["status"] == status
        assert item["error"]["detail"].startswith(says)
    assert received(jobs) == {"B\u00e4nd 1": 1}


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        (b"", "is wrong: it is not JSON; send JSON such as"),
        (b"{", "is wrong: it is not JSON"),
        (b"\xff", "is wrong: it is not JSON"),
        (b"[" * 100_000, "is wrong: it is not JSON"),
        (b'{"files": [{"max_age": NaN}, {}]}', "is wrong: "),
        ([], "is wrong: The document is not an object"),
        ({}, "is wrong: 'files' is missing"),
        ({"files": {}}, "is wrong: files: "),
        ({"files": [{}, {}], "more": 1}, "is wrong: 'more' is not a member"),
        ({"files": [{}, {"cam": "a"}]}, "is wrong: 'files[1].cam' is not a member"),
        ({"files": [{}, 1]}, "is wrong: files[1] is not an object"),
        ({"files": [{"camera": 1}, {}]}, "is wrong: files[0].camera: "),
        ({"files": [{"captured_at": 1_769_847_300}, {}]}, "is wrong: files[0].captured_at: "),
        ({"files": [{"max_age": "60"}, {}]}, "is wrong: files[0].max_age: "),
        ({"files": [{"max_age": True}, {}]}, "is wrong: files[0].max_age: "),
        ({"files": [{"idempotency_key": ["a"]}, {}]}, "is wrong: files[0].idempotency_key: "),
        ({"files": [{}]}, "has 1 entries in files, but the form has 2 files"),
        ({"files": [{}] * 3}, "has 3 entries in files, but the form has 2 files"),
    ],
)
def test_metadata_of_another_structure_are_refused(
    client: FlaskClient, jobs: JobStore, metadata: object, says: str
) -> None:
    """The whole call, with the place and the fault; nothing of it is accepted."""
    assert_rejected(send(client, metadata, [jpeg(1), jpeg(2)]), 400, f"The part metadata {says}")
    assert received(jobs) == {}


def test_metadata_have_a_limit(client: FlaskClient) -> None:
    """256 KiB, which 64 entries do not reach."""
    longest = {
        "camera": "\u540d" * 21,
        "captured_at": "2026-01-31T08:15:00.123456789+00:00",
        "max_age": 604800,
    }
    full = entries(*[{**longest, "idempotency_key": f"{number:0128}"} for number in range(64)])
    assert Counter(item["status"] for item in items_of(send(client, full, [jpeg()] * 64))) == {202: 64}
    padded = json.dumps(entries({})).encode() + b" " * (256 * 1024)
    assert_rejected(send(client, padded, [jpeg()]), 413, "send at most 262,144 (256 KiB)")


# ---- Idempotency keys of files -----------------------------------------------------------------


def keyed(*names: str, camera: str = "belt-1") -> dict[str, Any]:
    """Metadata of files of one camera with these idempotency keys."""
    return entries(*[{"camera": camera, "idempotency_key": name} for name in names])


def test_a_files_key_stands_for_that_file_alone(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """In another call, at another place, among new files, and as a single upload: the same job."""
    first = items_of(send(client, keyed("a", "b"), [jpeg(1), jpeg(2)]))
    stored = {key for page in objects.pages(IMAGES) for key in page}
    again = items_of(send(client, keyed("b", "a"), [jpeg(2), jpeg(1)]))
    assert [item["job"] for item in again] == [item["job"] for item in first[::-1]]
    assert {key for page in objects.pages(IMAGES) for key in page} == stored
    mixed = items_of(send(client, keyed("c", "a"), [jpeg(3), jpeg(1)]))
    assert [item["job"]["id"] == first[0]["job"]["id"] for item in mixed] == [False, True]
    headers = {"Content-Type": "image/jpeg", "X-Camera-Id": "belt-1", "Idempotency-Key": "b"}
    single = client.post("/v1/images", data=jpeg(2), headers=headers)
    assert single.get_json()["id"] == first[1]["job"]["id"]
    assert (received(jobs), duplicates(jobs)) == ({"belt-1": 3}, {"belt-1": 4})
    assert jobs.pending() == 3
    assert jobs.client.llen(QUEUES["bulk"]) == 2


def test_one_call_may_hold_a_file_twice(client: FlaskClient, jobs: JobStore) -> None:
    """Under one key it is one job; other bytes, and another camera, under it are that file's fault."""
    sent = keyed("a", "a", "a", "b")
    sent["files"][3] = {"camera": "belt-2", "idempotency_key": "a"}
    one, same, other, elsewhere = items_of(send(client, sent, [jpeg(1), jpeg(1), jpeg(2), jpeg(1)]))
    assert one["job"]["id"] == same["job"]["id"]
    for item in (other, elsewhere):
        assert item["status"] == 422
        assert "'a' was used with other bytes" in item["error"]["detail"]
    assert (received(jobs), duplicates(jobs)) == ({"belt-1": 1}, {"belt-1": 1})
    assert jobs.pending() == 1
    assert client.get(f"/v1/jobs/{one['job']['id']}/image").data == jpeg(1)


def test_calls_that_race_make_one_job_of_each_file(
    monkeypatch: pytest.MonkeyPatch, client: FlaskClient, jobs: JobStore
) -> None:
    """Another call with some of the files is accepted between the look and the acceptance of this one."""
    put_many = ObjectStore.put_many
    others: list[dict[str, Any]] = []

    def other_call_first(store: ObjectStore, images: Any) -> None:
        put_many(store, images)
        monkeypatch.setattr(ObjectStore, "put_many", put_many)
        others.extend(items_of(send(client, keyed("b", "c"), [jpeg(2), jpeg(9)])))

    monkeypatch.setattr(ObjectStore, "put_many", other_call_first)
    first, second, third = items_of(send(client, keyed("a", "b", "c"), [jpeg(1), jpeg(2), jpeg(3)]))
    assert second["job"]["id"] == others[0]["job"]["id"]
    assert (first["status"], third["status"]) == (202, 422)
    assert (received(jobs), duplicates(jobs)) == ({"belt-1": 3}, {"belt-1": 1})
    assert jobs.pending() == 3


def test_a_call_whose_answer_from_redis_is_lost_is_accepted_once(client: FlaskClient, jobs: JobStore) -> None:
    """With a file that is known from the same call; all outcomes are as they would have been."""
    with lose_answer(lambda answer: isinstance(answer, list) and len(answer) == 3) as lost:
        one, two, again = items_of(send(client, keyed("a", "b", "a"), [jpeg(1), jpeg(2), jpeg(1)]))
    assert len(lost) == 1
    assert one["job"]["id"] == again["job"]["id"] != two["job"]["id"]
    assert (received(jobs), duplicates(jobs)) == ({"belt-1": 2}, {"belt-1": 1})
    assert jobs.pending() == 2


def test_a_record_that_has_expired_is_its_files_fault(client: FlaskClient, jobs: JobStore) -> None:
    """The key is worth nothing any more; a new file beside it is accepted."""
    (gone,) = items_of(send(client, keyed("a"), [jpeg(1)]))
    jobs.client.delete(f"ws:job:{gone['job']['id']}")
    expired, new = items_of(send(client, keyed("a", "b"), [jpeg(1), jpeg(2)]))
    assert (expired["status"], new["status"]) == (422, 202)
    assert "record has expired" in expired["error"]["detail"]


def test_a_calls_key_and_a_files_are_not_both_taken(client: FlaskClient, jobs: JobStore) -> None:
    """The sentence says which entry has one."""
    both = send(client, entries({}, {"idempotency_key": "a"}), [jpeg(1), jpeg(2)], {"Idempotency-Key": "k"})
    assert_rejected(both, 400, "The call has an Idempotency-Key, and files[1] an idempotency_key")
    assert received(jobs) == {}


def test_a_calls_key_stands_for_all_its_files_and_their_cameras(client: FlaskClient, jobs: JobStore) -> None:
    """Repeated it counts for each camera; with the cameras exchanged it is another call."""
    headers = {"Idempotency-Key": "k"}
    cameras = [{"camera": "belt-1"}, {"camera": "belt-2"}, {"camera": "belt-2"}]
    files = [jpeg(1), jpeg(2), jpeg(3)]
    first, again = (items_of(send(client, entries(*cameras), files, headers)) for _ in range(2))
    assert first == again
    exchanged = entries(cameras[0], cameras[0], cameras[1])
    assert_rejected(send(client, exchanged, files, headers), 422, "another camera")
    assert (received(jobs), duplicates(jobs)) == ({"belt-1": 1, "belt-2": 2}, {"belt-1": 1, "belt-2": 2})


# ---- Limits ------------------------------------------------------------------------------------


def test_a_limit_counts_the_files_that_are_new(client: FlaskClient, settings: Settings) -> None:
    """The call that finds an image left is accepted whole; the next is rejected whole, and counts nothing."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    bearer = {"Authorization": f"Bearer {keys.create('k', [Scope.INGEST], rate=0.001, burst=4)[1]}"}
    first = send(client, keyed("a", "b", "a"), [jpeg(1), jpeg(2), jpeg(1)], bearer)
    assert Counter(item["status"] for item in items_of(first)) == {202: 3}
    assert first.headers["RateLimit"] == '"images";r=2;t=2000'
    second = send(client, keyed("a", "c", "d", "e"), [jpeg(1), jpeg(3), jpeg(4), jpeg(5)], bearer)
    assert Counter(item["status"] for item in items_of(second)) == {202: 4}
    assert second.headers["RateLimit"].startswith('"images";r=0;')
    assert_rejected(
        send(client, keyed("f", "g"), [jpeg(6), jpeg(7)], bearer), 429, "as many images as it may"
    )


def test_a_full_queue_takes_none_of_the_files(
    settings: Settings, jobs: JobStore, objects: ObjectStore
) -> None:
    """Neither jobs nor objects remain; files that are known need no place."""
    before = {key for page in objects.pages(IMAGES) for key in page}
    client = create_app(settings.model_copy(update={"max_queued": 100})).test_client()
    names = [f"k{number}" for number in range(60)]
    first = items_of(send(client, keyed(*names), [jpeg(number) for number in range(60)]))
    kept = {key for page in objects.pages(IMAGES) for key in page} - before
    for metadata in (keyed(*[f"new-{number}" for number in range(40)]), entries(*[{}] * 40)):
        response = send(client, metadata, [jpeg(number) for number in range(40)])
        assert_rejected(response, 429, "The queue is full: 60 images wait")
        assert int(response.headers["Retry-After"]) > 0
    known = items_of(send(client, keyed(*names[:50]), [jpeg(number) for number in range(50)]))
    assert [item["job"]["id"] for item in known] == [item["job"]["id"] for item in first[:50]]
    assert jobs.pending() == 60
    assert {key for page in objects.pages(IMAGES) for key in page} - before == kept


def test_a_camera_too_many_is_its_files_fault(settings: Settings, jobs: JobStore) -> None:
    """Frames of known cameras in the same call go on."""
    client = create_app(settings.model_copy(update={"max_cameras": 2})).test_client()
    upload(client, camera="known")
    described = entries({"camera": "known"}, {"camera": "second"}, {"camera": "third"}, {"camera": "second"})
    items = items_of(send(client, described, [jpeg(number) for number in range(4)]))
    assert [item["status"] for item in items] == [202, 202, 422, 202]
    assert "there are 2 already" in items[2]["error"]["detail"]
    assert received(jobs) == {"known": 2, "second": 2}


def test_what_is_sent_again_belongs_to_its_sender(client: FlaskClient, settings: Settings) -> None:
    """Two keys may use the same names for their files; neither sees or cancels the other's."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    one, two = (
        {"Authorization": f"Bearer {keys.create(name, [Scope.INGEST])[1]}"} for name in ("one", "two")
    )
    (mine,), (other,) = (items_of(send(client, keyed("a"), [jpeg(1)], headers)) for headers in (one, two))
    assert mine["job"]["id"] != other["job"]["id"]
    assert client.delete(f"/v1/jobs/{other['job']['id']}", headers=one).status_code == 404
    assert client.delete(f"/v1/jobs/{mine['job']['id']}", headers=one).status_code == 200
