"""Uploads through the real API in this process, and checks of the ledger afterwards."""

from __future__ import annotations

import io
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.ingest.commit import Image, Origin, Upload
from core.jobs import JobState
from core.lanes import SINGLE
from core.messages import QUEUES
from core.redis.job_store import JobStore
from core.redis.ledger import TOTALS, Ledger, total
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.servers import Server, wait_until

BROKEN = jpeg(99)[:-300]
"""A JPEG with an intact header and a missing end."""


def upload(
    client: FlaskClient, data: bytes | None = None, camera: str = "belt", *, kind: str = "image/jpeg"
) -> str:
    """Upload one image; return its job's id."""
    response = post_image(client, data, Content_Type=kind, X_Camera_Id=camera)
    assert response.status_code == 202, response.get_data(as_text=True)
    return str(response.get_json()["id"])


def upload_bulk(
    client: FlaskClient, count: int, camera: str = "belt", broken: Collection[int] = ()
) -> list[str]:
    """Upload `count` images in calls of 32, those in `broken` truncated; return their jobs' ids."""
    ids: list[str] = []
    for start in range(0, count, 32):
        parts = [
            (io.BytesIO(BROKEN if seed in broken else jpeg(seed)), f"{seed}.jpg", "image/jpeg")
            for seed in range(start, min(start + 32, count))
        ]
        response = client.post("/v1/images/bulk", data={"i": parts}, headers={"X-Camera-Id": camera})
        assert response.status_code == 202, response.get_data(as_text=True)
        ids += [item["job"]["id"] for item in response.get_json()["items"]]
    return ids


def upload_group(client: FlaskClient, max_ages: Sequence[float | None]) -> list[str]:
    """Upload up to 16 single images at the same time; return their jobs' ids.

    `max_ages`: seconds after which each is too old, if ever.
    """
    commits, now = client.application.extensions["wastestream"].ingest._commits, time.time_ns() // 1_000_000
    uploads = []
    for seed, age in enumerate(max_ages):
        expires_ms = None if age is None else now + round(1000 * age)
        origin = Origin("belt", None, expires_ms)
        uploads.append(Upload([Image(jpeg(seed), "jpeg", 0, origin)], SINGLE))
    return [accepted.jobs[0].id for accepted in commits._commit_singles(uploads)]


@contextmanager
def uploading(client: FlaskClient) -> Iterator[list[str]]:
    """Upload single images and bulks from a thread; yields the growing list of their ids.

    A call that is answered 503 is sent again under its idempotency key, or those of its files, as clients do.
    """
    ids: list[str] = []
    stop = threading.Event()
    failed: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.wait(0.2):
                for send in (_send_one, _send_bulk, _send_described):
                    ids.extend(_until_accepted(partial(send, client, uuid.uuid4().hex)))
        except BaseException as error:  # noqa: BLE001 - handed to the test, which raises it
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield ids
    finally:
        stop.set()
        thread.join()
    assert failed == []


def _send_one(client: FlaskClient, key: str) -> TestResponse:
    return post_image(client, Idempotency_Key=key)


def _send_bulk(client: FlaskClient, key: str) -> TestResponse:
    return client.post("/v1/images/bulk", data={"i": _parts()}, headers={"Idempotency-Key": key})


def _send_described(client: FlaskClient, key: str) -> TestResponse:
    """Upload a bulk of two cameras, each file with a key of its own."""
    files = [{"camera": f"belt-{number % 2}", "idempotency_key": f"{key}-{number}"} for number in range(8)]
    return client.post("/v1/images/bulk", data={"metadata": json.dumps({"files": files}), "i": _parts()})


def _parts() -> list[tuple[io.BytesIO, str, str]]:
    return [(io.BytesIO(jpeg(seed)), f"{seed}.jpg", "image/jpeg") for seed in range(8)]


def _until_accepted(send: Callable[[], TestResponse]) -> list[str]:
    """Send images until they are accepted or rejected; return the jobs' ids."""
    deadline = time.monotonic() + 90
    while True:
        response = send()
        if response.status_code != 503 or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    assert response.status_code == 202, response.get_data(as_text=True)
    body = response.get_json()
    return [item["job"]["id"] for item in body.get("items", [{"job": body}])]


def states(jobs: JobStore, ids: Sequence[str]) -> Counter[str]:
    """Return the number of jobs in each state; "unknown" counts jobs without a record."""
    return Counter("unknown" if job is None else job.state.value for job in jobs.read_many(ids))


def wait_settled(jobs: JobStore, ids: Sequence[str], seconds: float = 60) -> Counter[str]:
    """Return the jobs' states once none is queued."""
    wait_until(lambda: states(jobs, ids)[JobState.QUEUED] == 0, f"{len(ids)} jobs to settle", seconds)
    return states(jobs, ids)


def stored_objects(s3_server: Server) -> int:
    """Return the number of objects with images in storage."""
    return sum(path.is_file() for path in (Path(s3_server.log).parent / "objects").rglob("images/**/*"))


def assert_balanced(jobs: JobStore) -> None:
    """Check every row and the total: received = every terminal state + pending."""
    ledger = Ledger(jobs.client)
    rows = list(ledger.rows(ledger.names("-inf", "+inf", max_rows=1_000_000)))
    assert [row for row in rows if not row.counts.balanced] == []
    balance = ledger.balance()
    assert balance.balanced, balance
    summed = total(row.counts for row in rows)
    assert {name: balance.counts[name] for name in TOTALS} == {name: summed[name] for name in TOTALS}


def finish(jobs: JobStore, ids: Sequence[str]) -> None:
    """Check that every job is classified, each message acknowledged, no queue filled, the ledger balanced."""
    assert wait_settled(jobs, ids) == {"classified": len(ids)}
    assert_balanced(jobs)
    assert Ledger(jobs.client).balance().counts["classified"] == len(ids)
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")
    assert all(jobs.client.llen(queue) == 0 for queue in QUEUES.values())
