"""Images that ask for too much, among good ones: they fail alone, each with its reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from core.ids import new_job_id
from core.jobs import Job
from core.messages import QUEUES, Envelope, make_app
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.support import bombs
from tests.support.images import encoded, jpeg
from tests.support.servers import Server, wait_until
from tests.support.stream import BROKEN, assert_balanced, upload, upload_bulk, wait_settled

StartWorker = Callable[..., Server]


@pytest.fixture
def submit(jobs: JobStore, objects: ObjectStore, settings: Settings) -> Callable[[bytes, str], str]:
    """A function that gets an image past the API's checks, as a later change of these might."""
    envelope = Envelope(make_app(settings))

    def put(data: bytes, image_format: str) -> str:
        new = Job(new_job_id(), "bombs", image_format, len(data))
        objects.put_many([(new.image_key, data)])
        jobs.accept([new], "bulk", QUEUES["bulk"], [envelope.message([new.image_key], "bulk")])
        return new.id

    return put


def _error(jobs: JobStore, job_id: str) -> str:
    job = jobs.read(job_id)
    assert job is not None
    return job.error or ""


def test_bombs_fail_alone(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker, submit: Callable[[bytes, str], str]
) -> None:
    """Every kind of bomb settles `failed` with a sentence; the good ones of their batches are classified."""
    good = upload_bulk(client, 20)
    makers = [*bombs.REJECTED, *bombs.FAILING]
    bad = [submit(data, _format_of(data)) for data in (make() for make in makers)]
    bad.append(upload(client, BROKEN))
    good += upload_bulk(client, 20)
    good += [upload(client, make(), kind="application/octet-stream") for make in bombs.HARMLESS]
    worker = start_worker()
    (child,) = worker.children()
    assert wait_settled(jobs, good) == {"classified": 40 + len(bombs.HARMLESS)}
    assert wait_settled(jobs, bad) == {"failed": len(bad)}
    assert all(_error(jobs, job_id).endswith(("way.", "again.", "pixels.")) for job_id in bad)
    assert worker.children() == [child]
    assert_balanced(jobs)


def test_every_poison_in_one_stream(
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    start_worker: StartWorker,
    submit: Callable[[bytes, str], str],
    tmp_path: Path,
) -> None:
    """Corrupt, cut off, a bomb, gone from storage, deadly to the process: each of them fails and no other."""
    good, bad = upload_bulk(client, 10), []
    data = encoded(image_format="PNG")
    middle = len(data) // 2
    bad.append(upload(client, data[:middle] + bytes(50) + data[middle + 50 :], kind="image/png"))
    good += upload_bulk(client, 10)
    bad.append(upload(client, BROKEN))
    bad.append(submit(bombs.second_size(), "png"))
    good += upload_bulk(client, 10)
    gone = upload(client)
    job = jobs.read(gone)
    assert job is not None
    objects.delete_many([job.image_key])
    bad.append(gone)
    killer = upload(client, camera="poison")
    good += [*upload_bulk(client, 10), *(upload(client) for _ in range(5))]
    start_worker(module="tests.support.faulty_worker", FAULT="crash", MARKER=str(tmp_path / "m"))
    assert wait_settled(jobs, good) == {"classified": 45}
    assert wait_settled(jobs, [*bad, killer]) == {"failed": 5}
    assert "crashed the worker 3 times" in _error(jobs, killer)
    assert all(_error(jobs, job_id) for job_id in bad)
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "every message to be acknowledged")
    assert_balanced(jobs)


def test_images_that_need_more_memory_than_allowed_fail_alone(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker
) -> None:
    """Each is tried alone, fails with the reason, and neither its batch nor the child comes to harm."""
    # A palette with a transparent colour: 544 MiB are too few, 576 enough.
    large = encoded(Image.new("P", (10_000, 5_000)), "PNG", compress_level=1, transparency=0)
    good = upload_bulk(client, 20)
    bad = [upload(client, large, kind="image/png"), upload(client, bombs.transparent(), kind="image/webp")]
    worker = start_worker(WASTESTREAM_CHILD_MEMORY="512")
    (child,) = worker.children()
    assert wait_settled(jobs, [*good, *bad]) == {"classified": 20, "failed": 2}
    assert all("needs more memory" in _error(jobs, job_id) for job_id in bad)
    assert worker.children() == [child]
    assert_balanced(jobs)


def test_the_default_memory_is_enough_for_what_is_let_in(
    client: FlaskClient, jobs: JobStore, start_worker: StartWorker
) -> None:
    """The dearest image that the limits allow is classified, beside other large files.

    Tried by hand with 31 files of 10 MB beside it: 1,600 MiB were enough, 1,536 were not.
    """
    data = jpeg() + os.urandom(10_000_000)
    ids = [upload(client, data) for _ in range(3)]
    headers = {"Content-Type": "image/webp"}
    ids.append(str(client.post("/v1/images", data=bombs.transparent(), headers=headers).get_json()["id"]))
    start_worker()
    assert wait_settled(jobs, ids) == {"classified": 4}
    assert_balanced(jobs)


def _format_of(data: bytes) -> str:
    return {b"\xff": "jpeg", b"\x89": "png", b"R": "webp"}[data[:1]]
