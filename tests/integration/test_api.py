"""The API on a real Redis and a real S3 server: accepted uploads, rejections, answers."""

from __future__ import annotations

import csv
import gzip
import io
import json
import threading
import unicodedata
import zlib
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from api.app import create_app
from core.ids import new_job_id
from core.image_header import MAX_BYTES
from core.jobs import JobState, Outcome, Prediction
from core.messages import QUEUES, keys_in
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.calls import JPEG, assert_problem, post_form, post_image
from tests.support.cuts import lose_answer
from tests.support.images import encoded, jpeg, pattern
from tests.support.servers import free_port


def test_an_upload_is_stored_recorded_and_enqueued(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """202 with the job; its bytes are in storage and its message in the queue."""
    response = post_image(client, X_Camera_Id="belt-1", X_Captured_At="2026-01-31T08:15:00+01:00")
    assert response.status_code == 202
    job = response.get_json()
    assert response.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert (job["state"], job["camera"], job["captured_at"]) == (
        "queued",
        "belt-1",
        "2026-01-31T07:15:00.000Z",
    )
    (message,) = jobs.client.lrange(QUEUES["single"], 0, -1)
    (key,) = keys_in(json.loads(message))
    assert objects.get(key) == jpeg()
    assert client.get(response.headers["Location"]).get_json() == job


CURL_FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def _huge_png() -> bytes:
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    "case",
    [
        (b"", {}, 400, "is empty"),
        (b"x" * (MAX_BYTES + 1), {}, 413, "at most 10,485,760"),
        (b"hello, I am a text", {}, 415, "not a JPEG, PNG or WebP"),
        (None, {"Content-Type": "image/png"}, 415, "the bytes are image/jpeg"),
        (None, {"Content-Type": "IMAGE/GIF; q=1"}, 415, "declare what is sent"),
        (b"hello", {"Content-Type": "text/plain"}, 415, "not a JPEG, PNG or WebP"),
        (jpeg().translate(None, b"\0\r\n"), CURL_FORM, 422, "use --data-binary"),
        (encoded(image_format="PNG").translate(None, b"\0\r\n"), CURL_FORM, 415, "use --data-binary"),
        (encoded(image_format="GIF"), {"Content-Type": "image/gif"}, 415, "not a JPEG, PNG or WebP"),
        (encoded(image_format="WEBP")[:200], {"Content-Type": ""}, 422, "header cannot be read"),
        (_huge_png(), {"Content-Type": "image/png"}, 422, "50000x50000"),
        (jpeg()[:20], {}, 422, "header cannot be read"),
        (None, {"X-Camera-Id": "../etc"}, 400, "cannot be a camera's id"),
        (None, {"X-Camera-Id": ""}, 400, "cannot be a camera's id"),
        (None, {"X-Camera-Id": "x" * 65}, 400, "1 to 64"),
        (None, {"X-Camera-Id": "belt #1"}, 400, "it holds '#'"),
        (None, {"X-Captured-At": "20260131"}, 400, "milliseconds since 1970"),
        (None, {"X-Max-Age": "1_000"}, 400, "seconds above 0"),
        (None, {"X-Captured-At": "yesterday"}, 400, "RFC 3339"),
        (None, {"X-Captured-At": "2026-01-31T08:15:00"}, 400, "with its zone"),
        (None, {"X-Captured-At": "2236-01-31T08:15:00Z"}, 422, "in the future"),
        (None, {"X-Captured-At": "0001-01-01T00:00:00+14:00"}, 422, "before 1970"),
        (None, {"X-Captured-At": "1970-01-01T00:00:00+23:59"}, 422, "before 1970"),
        (None, {"Idempotency-Key": "two words"}, 400, "visible ASCII"),
    ],
)
def test_bad_uploads_are_rejected_with_a_sentence(
    client: FlaskClient, jobs: JobStore, case: tuple[bytes | None, dict[str, str], int, str]
) -> None:
    """Each gets its status and says what to do; nothing is recorded."""
    data, headers, status, says = case
    response = client.post("/v1/images", data=jpeg() if data is None else data, headers={**JPEG, **headers})
    assert_problem(response, status, says)
    assert jobs.pending() == 0


@pytest.mark.parametrize(
    ("image_format", "media_types"),
    [
        ("JPEG", ["image/jpg", "image/pjpeg", "IMAGE/JPEG", "Image/Jpg; charset=binary", "image/*"]),
        ("JPEG", ["", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain", "jpeg"]),
        ("PNG", ["image/x-png", "image/png;q=0.9", "binary/octet-stream", "image/apng"]),
        ("WEBP", ["image/webp ; x=y", "image/x-webp"]),
    ],
)
def test_an_image_is_what_its_bytes_are(
    client: FlaskClient, jobs: JobStore, image_format: str, media_types: list[str]
) -> None:
    """Media types as cameras write them, of single images and of those in a form; stored is the true one."""
    data = encoded(image_format=image_format)
    for media_type in media_types:
        response = post_image(client, data, Content_Type=media_type)
        assert response.status_code == 202, media_type
        job = jobs.read(response.get_json()["id"])
        assert job is not None
        assert job.image_key.endswith(image_format.lower())
    assert client.post("/v1/images", data=data).status_code == 202
    items = post_form(client, [("a", data, media_type) for media_type in media_types]).get_json()["items"]
    assert [item["status"] for item in items] == [202] * len(media_types)


def test_a_camera_whose_clock_is_a_little_fast_is_not_rejected(client: FlaskClient) -> None:
    """A minute ahead is no future."""
    soon = (datetime.now(UTC) + timedelta(minutes=1)).isoformat()
    assert post_image(client, X_Captured_At=soon).status_code == 202


def test_a_camera_is_called_what_its_maker_calls_it(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """A MAC address, spaces, umlauts: one name in jobs, storage, ledger and metrics, however it is sent."""
    name = "00:1A:2B, B\u00e4ndchen (2)"
    raw, decomposed = name.encode().decode("latin-1"), quote(unicodedata.normalize("NFD", name))
    ids = [post_image(client, X_Camera_Id=sent).get_json()["id"] for sent in (raw, decomposed, name)]
    files = [("a", jpeg(1), "image/jpeg"), ("b", jpeg(2), "image/jpeg")]
    ids += [item["job"]["id"] for item in post_form(client, files, {"X-Camera-Id": raw}).get_json()["items"]]
    records = [job for job in jobs.read_many(ids) if job is not None]
    assert [job.camera for job in records] == [name] * 5
    assert [objects.get(job.image_key) for job in records] == [jpeg()] * 3 + [jpeg(1), jpeg(2)]
    (row,) = client.get("/v1/ledger", query_string={"camera": name}).get_json()["rows"]
    assert (row["camera"], row["received"], row["balanced"]) == (name, 5, True)
    (line,) = list(csv.DictReader(io.StringIO(client.get("/v1/ledger?format=csv").text)))
    assert line["camera"] == name
    assert f'wastestream_images_received_total{{camera="{name}"}} 5' in client.get("/metrics").text


def test_an_oversized_body_without_a_length_is_rejected(settings: Settings) -> None:
    """A chunked body is cut off at the limit and rejected, not taken in part."""
    body = encoded(pattern(), quality=95) + b"\0" * MAX_BYTES
    environment = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": ""}
    response = (
        create_app(settings).test_client().post("/v1/images", headers=JPEG, environ_overrides=environment)
    )
    assert_problem(response, 413, "at most 10,485,760")


def test_the_same_idempotency_key_answers_with_the_same_job(client: FlaskClient, jobs: JobStore) -> None:
    """An upload repeated by a client that missed the answer makes no second job."""
    first = post_image(client, Idempotency_Key="k-1").get_json()
    jobs.settle([Outcome(first["id"], JobState.FAILED, error="x")], "m")
    again = post_image(client, Idempotency_Key="k-1")
    assert again.status_code == 202
    assert again.get_json()["id"] == first["id"]
    assert again.get_json()["state"] == "failed"
    assert jobs.client.llen(QUEUES["single"]) == 1
    assert_problem(post_image(client, jpeg(1), Idempotency_Key="k-1"), 422, "used with other bytes")


def test_an_encoded_upload_is_decoded_as_its_header_says(client: FlaskClient) -> None:
    """Gzip, base64, a data URI, and a whole form in gzip; bombs and others are rejected by name."""
    text = b64encode(jpeg())
    accepted = [
        post_image(client, gzip.compress(jpeg()), Content_Encoding="gzip"),
        post_image(client, text, Content_Transfer_Encoding="base64"),
        post_image(client, b"data:image/jpeg;base64," + text, Content_Type="text/plain"),
    ]
    for answer in accepted:
        assert answer.status_code == 202
        assert client.get(f"{answer.headers['Location']}/image").data == jpeg()
    form = httpx.Request("POST", "http://api", files=[("a", ("a.jpg", jpeg(), "image/jpeg"))])
    headers = {"Content-Type": form.headers["Content-Type"], "Content-Encoding": "gzip"}
    answer = client.post("/v1/images/bulk", data=gzip.compress(form.read()), headers=headers)
    assert answer.get_json()["items"][0]["status"] == 202

    bomb = gzip.compress(jpeg() + bytes(MAX_BYTES))
    assert_problem(post_image(client, bomb, Content_Encoding="gzip"), 413, "more than 10,485,760 bytes")
    rejected = post_image(client, Content_Encoding="zstd")
    assert_problem(rejected, 415, "'zstd' is not supported")
    assert rejected.headers["Accept-Encoding"] == "gzip, deflate"
    assert_problem(post_image(client, text), 415, "base64 text")


@pytest.mark.parametrize("key", [None, "k"])
def test_an_upload_whose_answer_from_redis_is_lost_is_accepted_once(
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    key: str | None,
) -> None:
    """The call is repeated over a new connection and finds its own work done; the image stays where it is."""
    with lose_answer(
        lambda answer: isinstance(answer, list) and str(answer[0]).startswith("accepted")
    ) as lost:
        response = post_image(client) if key is None else post_image(client, Idempotency_Key=key)
    assert (response.status_code, len(lost)) == (202, 1)
    job = jobs.read(response.get_json()["id"])
    assert job is not None
    assert objects.get(job.image_key) == jpeg()
    assert jobs.pending() == jobs.client.llen(QUEUES["single"]) == 1


def test_a_waiting_request_answers_when_the_job_settles(client: FlaskClient, jobs: JobStore) -> None:
    """`wait` ends with the settlement, long before its seconds are over."""
    job_id = post_image(client).get_json()["id"]
    answers: list[dict[str, Any]] = []
    reader = threading.Thread(
        target=lambda: answers.append(client.get(f"/v1/jobs/{job_id}?wait=30").get_json())
    )
    reader.start()
    jobs.settle(
        [Outcome(job_id, JobState.CLASSIFIED, Prediction("biodegradable", 0.75, review=False))], "1+ab"
    )
    reader.join(timeout=10)
    assert not reader.is_alive()
    assert answers[0]["state"] == "classified"
    assert answers[0]["prediction"] == {
        "label": "biodegradable",
        "probability": 0.75,
        "review": False,
        "model": "1+ab",
    }


def test_waiting_ends_with_the_job_as_it_is(client: FlaskClient) -> None:
    """A job that does not settle in time is shown queued."""
    job_id = post_image(client).get_json()["id"]
    assert client.get(f"/v1/jobs/{job_id}?wait=0.05").get_json()["state"] == "queued"


@pytest.mark.parametrize("wait", ["-1", "31", "soon", "nan", "1_0"])
def test_an_impossible_wait_is_rejected(client: FlaskClient, wait: str) -> None:
    """Seconds from 0 to 30."""
    assert_problem(client.get(f"/v1/jobs/{new_job_id()}?wait={wait}"), 400, "from 0 to 30")


@pytest.mark.parametrize("path", ["/v1/jobs/{}", "/v1/jobs/{}?wait=5", "/v1/jobs/{}/image"])
def test_an_unknown_job_is_not_pending_but_not_found(client: FlaskClient, path: str) -> None:
    """404 for an unknown id and for a text that is no id."""
    assert_problem(client.get(path.format(new_job_id())), 404, "never accepted")
    assert_problem(client.get(path.format("nonsense")), 404, "is not a job id")


def test_many_jobs_are_asked_for_in_one_call(client: FlaskClient) -> None:
    """Known ones in order, unknown ones by name."""
    ids = [post_image(client, jpeg(seed)).get_json()["id"] for seed in range(3)]
    unknown = new_job_id()
    answer = client.post("/v1/jobs/query", json={"ids": [ids[2], unknown, ids[0], "nonsense"]}).get_json()
    assert [job["id"] for job in answer["jobs"]] == [ids[2], ids[0]]
    assert answer["unknown"] == [unknown, "nonsense"]


def test_a_query_that_cannot_be_answered_is_rejected(client: FlaskClient) -> None:
    """Wrong JSON, and too many ids."""
    bodies: list[Any] = [0, [], {}, {"ids": "x"}, {"ids": [1]}]
    for body in bodies:
        assert_problem(client.post("/v1/jobs/query", json=body), 400, "send JSON such as")
    assert_problem(client.post("/v1/jobs/query", json={"ids": ["x"] * 1001}), 400, "at most 1,000")
    assert client.post("/v1/jobs/query", json={"ids": ["x" * 2_000_000]}).status_code == 413


def test_an_image_is_given_back_as_it_came(client: FlaskClient, objects: ObjectStore, jobs: JobStore) -> None:
    """The very bytes with their type; 410 once storage no longer has them."""
    data = encoded(image_format="WEBP")
    job_id = post_image(client, data, Content_Type="image/webp").get_json()["id"]
    response = client.get(f"/v1/jobs/{job_id}/image")
    assert (response.data, response.content_type) == (data, "image/webp")
    job = jobs.read(job_id)
    assert job is not None
    objects.delete_many([job.image_key])
    assert_problem(client.get(f"/v1/jobs/{job_id}/image"), 410, "kept for 168 hours")


def test_a_browser_asks_each_time_whether_it_may_show_its_copy_of_an_image(
    settings: Settings, client: FlaskClient, objects: ObjectStore, jobs: JobStore
) -> None:
    """304 while it may and the image is stored; 401 without a key that may read, 410 once it is gone."""
    job_id = post_image(client).get_json()["id"]
    path = f"/v1/jobs/{job_id}/image"
    first = client.get(path)
    assert (first.headers["Cache-Control"], first.headers["ETag"]) == ("private, no-cache", f'"{job_id}"')
    copy = {"If-None-Match": first.headers["ETag"]}
    again = client.get(path, headers=copy)
    assert (again.status_code, again.data) == (304, b"")
    assert client.get(path, headers={"If-None-Match": '"other"'}).data == jpeg()
    locked = create_app(settings.model_copy(update={"auth": "required"})).test_client()
    assert_problem(locked.get(path, headers=copy), 401, "needs an API key")
    job = jobs.read(job_id)
    assert job is not None
    objects.delete_many([job.image_key])
    assert_problem(client.get(path, headers=copy), 410, "no longer stored")


@pytest.mark.parametrize(
    "send",
    [post_image, lambda c: post_form(c, [("a", jpeg(1), "image/jpeg"), ("b", jpeg(2), "image/jpeg")])],
)
def test_with_storage_down_nothing_is_accepted(
    settings: Settings, jobs: JobStore, send: Callable[[FlaskClient], TestResponse]
) -> None:
    """503 with Retry-After, and no trace of the upload."""
    nowhere = settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    response = send(create_app(nowhere).test_client())
    assert_problem(response, 503, "try again shortly")
    assert int(response.headers["Retry-After"]) > 0
    assert jobs.pending() == 0


def test_unknown_routes_and_methods_are_problems_too(client: FlaskClient) -> None:
    """404 and 405 are problems too; 405 names the allowed methods."""
    assert_problem(client.get("/v1/nothing"), 404, "no such route")
    rejected = client.put("/v1/images")
    assert_problem(rejected, 405, "PUT is not a method of this path; use POST.")
    assert "POST" in rejected.headers["Allow"]


def test_a_slash_at_the_end_changes_nothing(client: FlaskClient) -> None:
    """Clients that join addresses leave one there."""
    job_id = client.post("/v1/images/", data=jpeg(), headers=JPEG).get_json()["id"]
    for path in (f"/v1/jobs/{job_id}", f"/v1/jobs/{job_id}/image", "/v1/ledger", "/livez", "/session"):
        assert client.get(f"{path}/").data == client.get(path).data
    assert_problem(client.post("/v1/images/bulk/", data=jpeg(), headers=JPEG), 415, "multipart/form-data")
    assert_problem(client.put("/v1/images/"), 405, "use POST")


FORWARDED = {
    "X-Forwarded-For": "203.0.113.9, 192.0.2.1",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.test, example.com",
    "X-Forwarded-Prefix": "/evil, /waste/",
}


def test_a_trusted_proxy_may_show_the_api_below_a_prefix(settings: Settings) -> None:
    """Addresses in answers and on the page begin with it; a client's own headers are not trusted."""
    trusting = settings.model_copy(update={"trusted_proxies": 1, "auth": "off"})
    client = create_app(trusting).test_client()
    sent = client.post("/v1/images", data=jpeg(), headers={**JPEG, **FORWARDED})
    assert sent.headers["Location"] == f"/waste/v1/jobs/{sent.get_json()['id']}"
    page = client.get("/", headers=FORWARDED).text
    assert 'src="/waste/assets/page.js"' in page
    assert 'data-root="/waste"' in page
    out = client.delete("/session", headers={**FORWARDED, "Origin": "https://example.com"})
    cookie = out.headers["Set-Cookie"].split("; ")
    assert {"Path=/waste", "Secure"} <= set(cookie)
    assert_problem(
        client.delete("/session", headers={**FORWARDED, "Origin": "https://evil.test"}), 403, "another site"
    )


def test_what_a_client_says_of_a_proxy_means_nothing(client: FlaskClient) -> None:
    """Unless one is configured."""
    sent = client.post("/v1/images", data=jpeg(), headers={**JPEG, **FORWARDED})
    assert sent.headers["Location"] == f"/v1/jobs/{sent.get_json()['id']}"
    page = client.get("/", headers=FORWARDED).text
    assert 'src="/assets/page.js"' in page
    assert 'data-root=""' in page
    assert "Secure" not in client.delete("/session", headers=FORWARDED).headers["Set-Cookie"]


def test_answers_are_not_kept_by_caches(client: FlaskClient) -> None:
    """Answers about jobs and counts, and rejections, are for this caller and this moment."""
    job_id = client.post("/v1/images", data=jpeg(), headers=JPEG).get_json()["id"]
    ours = (f"/v1/jobs/{job_id}", "/v1/ledger", "/v1/ledger?format=csv", "/v1/jobs/none", "/v1/nothing")
    for path in (*ours, "/metrics", "/readyz", "/livez", "/session", "/static/page.js"):
        headers = client.get(path).headers
        assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
