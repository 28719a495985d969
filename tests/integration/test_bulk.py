"""Bulk uploads on a real Redis and a real S3 server: the outcome of each file, objects, forms, limits."""

from __future__ import annotations

import io
import json
from base64 import b64encode
from collections import Counter
from functools import partial

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from core.messages import QUEUES, keys_in
from core.redis.job_store import JobStore
from core.settings import Settings
from core.shards import IMAGES, object_key
from core.storage import ObjectStore
from tests.support.calls import JPEG, assert_problem, post_form, post_image
from tests.support.images import encoded, jpeg
from tests.support.stream import upload_bulk


def test_each_file_of_a_bulk_upload_has_its_own_outcome(client: FlaskClient, jobs: JobStore) -> None:
    """Bad files are rejected one by one, and the good ones between them accepted."""
    files = [
        ("a.jpg", jpeg(1), "image/jpeg"),
        ("b.txt", b"hello", "application/octet-stream"),
        ("c.png", encoded(image_format="PNG"), "application/octet-stream"),
        ("d.jpg", b"", "image/jpeg"),
        ("e.jpg", encoded(image_format="WEBP"), "image/jpeg"),
        ("f.webp", encoded(image_format="WEBP"), "image/webp"),
    ]
    response = post_form(client, files, {"X-Camera-Id": "belt-2"})
    assert response.status_code == 202
    items = response.get_json()["items"]
    assert [(item["file"], item["status"]) for item in items] == [
        ("a.jpg", 202),
        ("b.txt", 415),
        ("c.png", 202),
        ("d.jpg", 400),
        ("e.jpg", 415),
        ("f.webp", 202),
    ]
    assert {item["job"]["camera"] for item in items if "job" in item} == {"belt-2"}
    (message,) = jobs.client.lrange(QUEUES["bulk"], 0, -1)
    assert len(keys_in(json.loads(message))) == jobs.pending() == 3


def test_no_image_of_a_form_is_lost_for_how_its_part_is_written(client: FlaskClient, jobs: JobStore) -> None:
    """Without a file name, with one in another encoding, as base64 or a data URI."""
    head, text = b'--edge\r\nContent-Disposition: form-data; name="%d"', b64encode(jpeg())
    parts = [
        b"\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg(),
        b"\r\n\r\n" + jpeg(),
        b"; filename*=UTF-8''b%C3%A4.jpg\r\n\r\n" + jpeg(),
        b'; filename="b\xe4.jpg"\r\n\r\n' + jpeg(),
        b"; filename=a\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text,
        b"\r\n\r\ndata:image/jpeg;base64," + text,
        b"\r\n\r\n" + text,
        b"; filename=a\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin",
        b"\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b",
    ]
    body = b"".join(head % number + part + b"\r\n" for number, part in enumerate(parts)) + b"--edge--"
    answer = client.post("/v1/images/bulk", data=body, content_type="multipart/form-data; boundary=edge")
    items = answer.get_json()["items"]
    assert [(item["file"], item["status"]) for item in items] == [
        ("0", 202),
        ("1", 202),
        ("b\u00e4.jpg", 202),
        ("b\u00e4.jpg", 202),
        ("a", 202),
        ("5", 202),
        ("6", 415),
        ("a", 415),
        ("8", 415),
    ]
    assert "base64 text" in items[6]["error"]["detail"]
    assert "'x-uuencode'" in items[7]["error"]["detail"]
    images = {client.get(f"/v1/jobs/{item['job']['id']}/image").data for item in items[:6]}
    assert images == {jpeg()}
    assert jobs.pending() == 6


def test_images_of_a_bulk_upload_share_objects(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """Up to 16 and 8 MiB in each; every image is given back as it came, with its own type."""
    sent = [(jpeg(number), "image/jpeg") for number in range(18)]
    sent[3] = (encoded(image_format="PNG"), "image/png")
    sent[17] = (jpeg() + bytes(9 * 1024 * 1024), "image/jpeg")
    items = post_form(client, [("x", data, kind) for data, kind in sent]).get_json()["items"]
    ids = [item["job"]["id"] for item in items]
    answers = [client.get(f"/v1/jobs/{job_id}/image") for job_id in ids]
    assert [(answer.data, answer.mimetype) for answer in answers] == sent
    keys = [job.image_key for job in jobs.read_many(ids) if job is not None]
    assert list(Counter(object_key(key) for key in keys).values()) == [16, 1, 1]
    assert [object_key(key) == key for key in keys] == [False] * 16 + [True] * 2
    messages = [keys_in(json.loads(message)) for message in jobs.client.lrange(QUEUES["bulk"], 0, -1)]
    assert messages[::-1] == [keys[:16], keys[16:17], keys[17:]]  # No two workers read the same object.

    objects.delete_many(keys[:1])
    gone = [client.get(f"/v1/jobs/{job_id}/image").status_code for job_id in ids]
    assert gone == [410] * 16 + [200] * 2


def test_nothing_of_a_rejected_bulk_upload_stays_in_storage(
    settings: Settings, jobs: JobStore, objects: ObjectStore
) -> None:
    """Neither shared objects nor images of their own."""
    before = {key for page in objects.pages(IMAGES) for key in page}
    full = create_app(settings.model_copy(update={"max_queued": 100})).test_client()
    upload_bulk(full, 64)
    large = jpeg() + bytes(9 * 1024 * 1024)
    rejected = [("x", data, "image/jpeg") for data in (*(jpeg(number) for number in range(40)), large)]
    kept = {key for page in objects.pages(IMAGES) for key in page} - before
    assert len(kept) == 4
    assert post_form(full, rejected).status_code == 429
    assert {key for page in objects.pages(IMAGES) for key in page} - before == kept


def test_a_bulk_upload_can_be_repeated(client: FlaskClient, jobs: JobStore) -> None:
    """The same key and files give the same jobs, rejections included."""
    files = [
        ("a.jpg", jpeg(1), "image/jpeg"),
        ("b.txt", b"x", "text/plain"),
        ("c.jpg", jpeg(2), "image/jpeg"),
    ]
    first, again = (post_form(client, files, {"Idempotency-Key": "k"}).get_json() for _ in range(2))
    assert first == again
    assert jobs.pending() == 2
    assert_problem(post_form(client, files[::-1], {"Idempotency-Key": "k"}), 422, "other bytes")


def test_an_idempotency_key_is_for_one_camera_and_one_set_of_types(client: FlaskClient) -> None:
    """Cameras that number their frames alike do not get each other's jobs."""
    assert post_image(client, X_Camera_Id="one", Idempotency_Key="1").status_code == 202
    assert_problem(post_image(client, X_Camera_Id="two", Idempotency_Key="1"), 422, "another camera")
    png = encoded(image_format="PNG")
    files = [("a", jpeg(), "image/jpeg"), ("b", png, "image/jpeg")]
    items = post_form(client, files, {"Idempotency-Key": "2"}).get_json()["items"]
    assert [item["status"] for item in items] == [202, 415]
    retyped = [("a", jpeg(), "image/png"), ("b", png, "image/png")]
    assert_problem(post_form(client, retyped, {"Idempotency-Key": "2"}), 422, "another media type")


def test_bulk_uploads_have_limits(client: FlaskClient) -> None:
    """None, too many, and no form at all."""
    assert_problem(
        client.post("/v1/images/bulk", data="--edge--", content_type="multipart/form-data; boundary=edge"),
        400,
        "no file",
    )
    for count in (65, 200):
        assert_problem(post_form(client, [("a.jpg", jpeg(), "image/jpeg")] * count), 400, "at most 64")
    assert_problem(client.post("/v1/images/bulk", data=jpeg(), headers=JPEG), 415, "multipart/form-data")


def test_a_text_field_is_named_and_not_ignored(client: FlaskClient, jobs: JobStore) -> None:
    """A camera that is sent as a field would be lost without a word; so the whole call is rejected."""
    form = {"camera": "belt-1", "images": (io.BytesIO(jpeg()), "a.jpg")}
    sent = client.post("/v1/images/bulk", data=form)
    assert_problem(sent, 400, "The form has a text field 'camera', which this call does not take")
    assert jobs.pending() == 0


@pytest.mark.parametrize("body", [b"--edge\r\n", b"no form", b"--edge\r\nContent-Disposition: form-data; "])
def test_a_form_that_breaks_off_is_rejected(client: FlaskClient, jobs: JobStore, body: bytes) -> None:
    """Nothing of it is accepted; so it is with one cut off in the middle of its second file."""
    send = partial(client.post, "/v1/images/bulk", content_type="multipart/form-data; boundary=edge")
    assert_problem(send(data=body), 400, "not a complete form")
    part = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="a.jpg"\r\n\r\n' + jpeg() + b"\r\n"
    assert_problem(send(data=2 * part), 400, "not a complete form")
    assert send(data=2 * part + b"--edge--\r\n").status_code == 202
    assert jobs.pending() == 2


def test_a_part_that_would_swallow_the_next_is_rejected(client: FlaskClient, jobs: JobStore) -> None:
    """Without the empty line after its header, the next file would count as its content."""
    head = b'--edge\r\nContent-Disposition: form-data; name="a"; filename="%d.jpg"\r\n\r\n'
    body = head % 1 + head % 2 + jpeg() + b"\r\n--edge--\r\n"
    response = client.post("/v1/images/bulk", data=body, content_type="multipart/form-data; boundary=edge")
    assert_problem(response, 400, "no empty line")
    assert jobs.pending() == 0


def test_a_form_of_very_many_parts_is_not_read(client: FlaskClient) -> None:
    """Beyond a thousand parts nobody counts any more."""
    assert_problem(post_form(client, [("a.jpg", b"x", "image/jpeg")] * 1001), 413, "at most 64")
