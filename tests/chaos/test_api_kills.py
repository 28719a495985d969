"""The API killed while it accepts: answered jobs exist, and a repeated upload counts once."""

from __future__ import annotations

import json
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

from core.messages import QUEUES, keys_in
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.shards import job_id_of
from tests.support.images import jpeg
from tests.support.servers import Server, wait_until
from tests.support.stream import finish

StartApi = Callable[..., Server]

_TWO = {"WASTESTREAM_API_PROCESSES": "2"}


def _upload(port: int, key: str) -> str | None:
    """Upload one image under the key; return its id, None if there was no answer."""
    headers = {"Content-Type": "image/jpeg", "Idempotency-Key": key}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/images", data=jpeg(), headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(json.load(response)["id"])
    except (urllib.error.URLError, HTTPException, OSError):  # not reached, cut off in the answer, or reset
        return None


def _upload_until_answered(port: int, key: str) -> str:
    job_ids: list[str] = []

    def answered() -> bool:
        job_id = _upload(port, key)
        job_ids.extend([job_id] if job_id else [])
        return bool(job_ids)

    wait_until(answered, "an answer")
    return job_ids[0]


def _queued_ids(jobs: JobStore) -> list[str]:
    """Return the id of every job in a message that waits."""
    messages = [message for queue in QUEUES.values() for message in jobs.client.lrange(queue, 0, -1)]
    return [job_id_of(key) for message in messages for key in keys_in(json.loads(message))]


@pytest.mark.parametrize("moment", ["before accept", "after accept"])
def test_a_process_is_killed_around_accepting(
    jobs: JobStore, start_api: StartApi, start_worker: Callable[..., Server], tmp_path: Path, moment: str
) -> None:
    """Recording and enqueueing are one step: after it the job is whole, before it there is none."""
    marker = tmp_path / "m"
    api = start_api("tests.support.faulty_api", **_TWO, FAULT=moment, MARKER=str(marker))
    assert api.port is not None
    assert _upload(api.port, "key") is None
    assert marker.exists()
    assert jobs.pending() == len(_queued_ids(jobs)) == (1 if moment == "after accept" else 0)
    job_id = _upload_until_answered(api.port, "key")
    assert _queued_ids(jobs) == [job_id]
    assert Ledger(jobs.client).balance().counts["received"] == 1
    start_worker()
    finish(jobs, [job_id])


def test_the_api_is_killed_again_and_again_under_load(
    jobs: JobStore, start_api: StartApi, start_worker: Callable[..., Server]
) -> None:
    """With uploads on their way each time: every upload is one job, whenever its process was killed."""
    rng = random.Random(4)  # noqa: S311 - moments, no secret
    api = start_api(**_TWO)
    port = api.port
    assert port is not None
    start_worker()
    with ThreadPoolExecutor(8) as clients:
        sent = [clients.submit(_upload_until_answered, port, str(number)) for number in range(1000)]
        for _ in range(4):
            done = sum(upload.done() for upload in sent)
            wait_until(lambda before=done: sum(upload.done() for upload in sent) > before, "uploads")  # type: ignore[misc]
            time.sleep(rng.uniform(0, 0.1))
            api.kill()
            api.stop()  # Its children too.
            api.start()
        assert not sent[-1].done()
        ids = [upload.result() for upload in sent]
    assert len(set(ids)) == len(ids)
    finish(jobs, ids)


def test_the_api_finishes_its_requests_when_told_to_stop(
    jobs: JobStore, start_api: StartApi, start_worker: Callable[..., Server]
) -> None:
    """A long-poll under way at SIGTERM gets its answer, and the API ends with exit code 0."""
    api = start_api(**_TWO)
    assert api.port is not None
    job_id = _upload_until_answered(api.port, "key")
    with urllib.request.urlopen(f"http://127.0.0.1:{api.port}/livez", timeout=5) as response:
        assert response.status == 200
    waiting = urllib.request.Request(f"http://127.0.0.1:{api.port}/v1/jobs/{job_id}?wait=3")

    def ask() -> str:
        with urllib.request.urlopen(waiting, timeout=20) as response:
            return str(json.load(response)["state"])

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask)
        time.sleep(1)  # Nothing tells from outside that the request is under way.
        assert api.kill(signal.SIGTERM) == 0
        assert answer.result() == "queued"
    start_worker()
    finish(jobs, [job_id])
