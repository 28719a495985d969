"""`?wait=SECONDS`: uploads that are answered with their result, and the limit on waiting requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from core.ids import new_job_id
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.servers import Server, wait_until
from tests.support.stream import BROKEN


def test_an_upload_is_answered_with_its_result(
    client: FlaskClient, start_worker: Callable[..., Server]
) -> None:
    """One call from image to label; a bad image says why; a repetition has its result at once."""
    start_worker()
    good = post_image(client, query="?wait=20", Idempotency_Key="one")
    assert good.status_code == 202
    job = good.get_json()
    assert job["state"] == "classified"
    assert job["prediction"]["label"] in {"biodegradable", "non_biodegradable"}
    assert job["queue"] is None
    assert good.headers["Location"] == f"/v1/jobs/{job['id']}"
    assert "Retry-After" not in good.headers
    assert client.get(good.headers["Location"]).get_json() == job
    assert post_image(client, query="?wait=20", Idempotency_Key="one").get_json() == job
    bad = post_image(client, BROKEN, query="?wait=20").get_json()
    assert (bad["state"], bad["prediction"]) == ("failed", None)
    assert bad["error"]


def test_an_upload_that_waits_in_vain_is_answered_as_any_other(client: FlaskClient, jobs: JobStore) -> None:
    """After its seconds the job is queued, with its place; there is nothing to come back sooner for."""
    began = time.monotonic()
    answer = post_image(client, query="?wait=0.3")
    assert time.monotonic() - began >= 0.3
    assert answer.status_code == 202
    assert answer.get_json()["state"] == "queued"
    assert answer.get_json()["queue"]["ahead"] == 0
    assert "Retry-After" not in answer.headers
    assert jobs.pending() == 1


def test_waiting_for_the_result_takes_the_right_to_read_it(settings: Settings, jobs: JobStore) -> None:
    """A key that may only upload is told so before anything is accepted."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    _, token = keys.create("belt-1", [Scope.INGEST])
    client = create_app(settings).test_client()
    rejected = post_image(client, query="?wait=1", Authorization=f"Bearer {token}")
    assert rejected.status_code == 403
    assert "'read'" in rejected.get_json(force=True)["detail"]
    assert jobs.pending() == 0
    assert post_image(client, Authorization=f"Bearer {token}").status_code == 202


@pytest.mark.parametrize(
    ("path", "says"), [("?wait=soon", "from 0 to 30"), ("/bulk?wait=1", "'wait' is not a parameter")]
)
def test_a_wait_that_cannot_be_is_rejected(client: FlaskClient, jobs: JobStore, path: str, says: str) -> None:
    """Before anything is accepted."""
    rejected = post_image(client, query=path)
    assert rejected.status_code == 400
    assert says in rejected.get_json(force=True)["detail"]
    assert jobs.pending() == 0


def test_who_finds_no_place_to_wait_is_told_when_to_ask_again(settings: Settings) -> None:
    """At once, with the job as it is; requests with a place keep it."""
    client = create_app(settings.model_copy(update={"api_waiting": 1})).test_client()
    job_id = post_image(client).get_json()["id"]
    other = client.application.test_client()

    def hold() -> TestResponse:
        """Wait; but again from the beginning where the only place was taken by the one who looks for that."""
        while "Retry-After" in (answer := other.get(f"/v1/jobs/{job_id}?wait=5")).headers:
            pass
        return answer

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(hold)

        def early() -> bool:
            return "Retry-After" in client.get(f"/v1/jobs/{job_id}?wait=0.05").headers

        wait_until(early, "the place to be taken")
        began = time.monotonic()
        results = client.get("/v1/results?wait=20")
        assert (results.get_json()["results"], results.headers["Retry-After"]) == ([], "1")
        upload = post_image(client, query="?wait=20")
        assert time.monotonic() - began < 10
        assert (upload.status_code, upload.get_json()["state"]) == (202, "queued")
        assert upload.headers["Retry-After"] == "1"
        assert first.result().get_json()["state"] == "queued"


def test_an_upload_that_waits_is_accepted_though_redis_goes_away(
    client: FlaskClient, jobs: JobStore, redis_server: Server
) -> None:
    """Its sender learns the id: to be told 503 would make it send the image again."""
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(post_image, client, query="?wait=20")
        wait_until(lambda: jobs.pending() == 1, "the job to be accepted")
        redis_server.kill()
        try:
            answer = sent.result()
        finally:
            redis_server.start()
    assert (answer.status_code, answer.get_json()["state"]) == (202, "queued")
    assert client.get(answer.headers["Location"]).get_json()["state"] == "queued"


def test_waiting_for_what_is_unknown(client: FlaskClient) -> None:
    """404 at once."""
    assert client.get(f"/v1/jobs/{new_job_id()}?wait=20").status_code == 404
