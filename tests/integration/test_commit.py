"""Single uploads that come at the same time: they share an object, and each stands for itself."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import obstore
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.ingest import group_commit
from core.errors import RedisFullError, RedisUnavailableError, StorageUnavailableError
from core.jobs import Job
from core.messages import QUEUES, keys_in
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.keys import PENDING
from core.redis.ledger import Ledger
from core.settings import Settings
from core.shards import IMAGES, MAX_BYTES, Shard, object_key
from core.storage import Content, ObjectStore
from tests.support.images import encoded, jpeg
from tests.support.servers import wait_until
from tests.support.stream import assert_balanced, upload_group, wait_settled

Send = Callable[[FlaskClient], Any]


def sending(data: bytes, kind: str = "image/jpeg", **headers: str) -> Send:
    """An upload of one image, with `X_Camera_Id` and the like as headers."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda client: client.post("/v1/images", data=data, headers={"Content-Type": kind, **named})


def sent_as_a_group(
    monkeypatch: pytest.MonkeyPatch, app: Flask, uploads: Sequence[Send], first: Send | None = None
) -> list[Any]:
    """Send uploads from threads while the image of one before them is on its way; return their answers.

    They wait for that one, `first`, in the order given, and then go together.
    """
    monkeypatch.setattr(group_commit, "MAX_WAIT", 60)
    arrived, go = threading.Event(), threading.Event()
    put_many = ObjectStore.put_many

    def first_waits(store: ObjectStore, images: Sequence[tuple[str, Content]]) -> None:
        if not arrived.is_set():
            arrived.set()
            assert go.wait(60)
        put_many(store, images)

    monkeypatch.setattr(ObjectStore, "put_many", first_waits)
    waiting = app.extensions["wastestream"].ingest._commits._singles._waiting
    with ThreadPoolExecutor(len(uploads) + 1) as pool:
        try:
            before = pool.submit(first or sending(jpeg(90)), app.test_client())
            assert arrived.wait(10)
            answers = []
            for count, upload in enumerate(uploads, 1):
                answers.append(pool.submit(upload, app.test_client()))
                wait_until(lambda: len(waiting) == count, "the upload to wait")  # noqa: B023 - called at once
        finally:
            go.set()
        assert before.result(10).status_code == 202
        return [answer.result(10) for answer in answers]


def the_jobs(jobs: JobStore, answers: Sequence[Any]) -> list[Job]:
    """The jobs that accepted uploads made."""
    assert [answer.status_code for answer in answers] == [202] * len(answers)
    records = jobs.read_many([answer.get_json()["id"] for answer in answers])
    return [job for job in records if job is not None]


def test_they_share_an_object(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    jobs: JobStore,
    objects: ObjectStore,
    start_worker: Callable[..., object],
) -> None:
    """Images of any cameras and formats are returned unchanged, and workers classify them."""
    images = [(jpeg(number), "image/jpeg") for number in range(5)]
    images[2] = (encoded(image_format="PNG"), "image/png")
    app = create_app(settings)
    uploads = [sending(*image, X_Camera_Id=f"belt-{at}") for at, image in enumerate(images)]
    accepted = the_jobs(jobs, sent_as_a_group(monkeypatch, app, uploads))
    assert [job.camera for job in accepted] == [f"belt-{number}" for number in range(5)]
    (name,) = {object_key(job.image_key) for job in accepted}
    shard = Shard.at(name)
    assert shard is not None
    assert shard.job_ids == [job.id for job in accepted]
    answers = [app.test_client().get(f"/v1/jobs/{job.id}/image") for job in accepted]
    assert [(answer.data, answer.mimetype) for answer in answers] == images
    stored = bytes(obstore.get(objects._store, name).bytes())
    with tarfile.open(fileobj=io.BytesIO(stored), mode="r:") as archive:
        assert archive.getnames() == [f"{job.camera}/{job.id}.{job.format}" for job in accepted]
    messages = [keys_in(json.loads(message)) for message in jobs.client.lrange(QUEUES["single"], 0, -1)]
    assert messages[0] == [
        job.image_key for job in accepted
    ]  # one message, so that one worker reads the object
    assert len(messages) == 2

    start_worker()
    assert wait_settled(jobs, [job.id for job in accepted]) == {"classified": 5}
    assert_balanced(jobs)


def test_who_shares_an_object_learns_nothing_of_the_others(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    jobs: JobStore,
    objects: ObjectStore,
    start_worker: Callable[..., object],
) -> None:
    """Not their jobs' ids from its own, not from an error about the object, and no power over them."""
    keys = KeyStore(jobs.client)
    tokens = [keys.create(name, [Scope.INGEST])[1] for name in ("one", "two")]
    reader = {"Authorization": f"Bearer {keys.create('reader', [Scope.READ])[1]}"}
    uploads = [sending(jpeg(at), Authorization=f"Bearer {tokens[at % 2]}") for at in range(6)]
    app = create_app(settings)
    first = sending(jpeg(90), Authorization=f"Bearer {tokens[0]}")
    accepted = the_jobs(jobs, sent_as_a_group(monkeypatch, app, uploads, first))
    (name,) = {object_key(job.image_key) for job in accepted}
    shard = Shard.at(name)
    assert shard is not None
    client, own = app.test_client(), {"Authorization": f"Bearer {tokens[0]}"}
    guesses = [job.id[:25] + digit for job in accepted[::2] for digit in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"]
    answers = [client.delete(f"/v1/jobs/{guess}", headers=own).status_code for guess in guesses]
    assert Counter(answers) == {404: 93, 200: 3}
    assert [job.state.value for job in jobs.read_many([job.id for job in accepted]) if job is not None] == [
        "cancelled",
        "queued",
    ] * 3

    objects.delete_many([name])
    start_worker()
    assert wait_settled(jobs, [job.id for job in accepted]) == {"cancelled": 3, "failed": 3}
    for job in accepted:
        assert shard.id not in client.get(f"/v1/jobs/{job.id}", headers=reader).get_data(as_text=True)
    assert_balanced(jobs)


def test_no_more_than_an_object_takes(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, jobs: JobStore
) -> None:
    """16 images, and 8 MiB; the rest go next."""
    uploads = [sending(jpeg(number)) for number in range(20)]
    uploads[18] = sending(jpeg() + bytes(MAX_BYTES - len(jpeg())))
    accepted = the_jobs(jobs, sent_as_a_group(monkeypatch, create_app(settings), uploads))
    assert [job.shard.rpartition("-")[2] for job in accepted] == ["16"] * 16 + ["2", "2", "", ""]
    assert list(Counter(object_key(job.image_key) for job in accepted).values()) == [16, 2, 1, 1]


def test_what_fills_an_object_goes_alone(
    monkeypatch: pytest.MonkeyPatch, client: FlaskClient, jobs: JobStore
) -> None:
    """It waits for nobody, and nobody for it."""
    monkeypatch.setattr(group_commit.GroupCommit, "do", None)
    (job,) = the_jobs(jobs, [sending(jpeg() + bytes(MAX_BYTES))(client)])
    assert not job.shard


def test_one_that_is_rejected_does_not_touch_the_others(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    jobs: JobStore,
    start_worker: Callable[..., object],
) -> None:
    """A client over its limit reads so; the others' images stay in the object."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    _, slow = keys.create("slow", [Scope.INGEST], rate=0.001, burst=1)
    _, free = keys.create("free", [Scope.INGEST, Scope.READ])
    app = create_app(settings)
    first, *uploads = (
        sending(jpeg(number), Authorization=f"Bearer {token}")
        for number, token in enumerate([free, slow, free, slow, free])
    )
    answers = sent_as_a_group(monkeypatch, app, uploads, first)
    assert [answer.status_code for answer in answers] == [202, 202, 429, 202]
    shown = [answer.get_json()["id"] for answer in answers if answer.status_code == 202]
    read = {"Authorization": f"Bearer {free}"}
    for number in (0, 1, 3):
        job_id = answers[number].get_json()["id"]
        assert app.test_client().get(f"/v1/jobs/{job_id}/image", headers=read).data == jpeg(number + 1)
    assert jobs.pending() == 4

    # The one message names all; of the image that was rejected there is no job, and workers drop it.
    start_worker()
    assert wait_settled(jobs, shown) == {"classified": 3}
    wait_until(lambda: jobs.client.hlen("unacked") == 0, "the message to be acknowledged")
    assert_balanced(jobs)
    assert Ledger(jobs.client).balance().counts["received"] == 4


@pytest.mark.parametrize(
    ("bound", "statuses"),
    [({"max_queued": 3}, [202, 202, 429, 429]), ({"max_cameras": 2}, [202, 422, 422, 202])],
)
def test_as_many_are_taken_as_fit(
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
    jobs: JobStore,
    bound: dict[str, int],
    statuses: list[int],
) -> None:
    """In the queue, or of cameras: who comes first is served first, and the others are told."""
    app = create_app(settings.model_copy(update=bound))
    cameras = ["default", "b", "c", "default"] if "max_cameras" not in bound else ["b", "c", "d", "b"]
    uploads = [sending(jpeg(number), X_Camera_Id=camera) for number, camera in enumerate(cameras)]
    assert [answer.status_code for answer in sent_as_a_group(monkeypatch, app, uploads)] == statuses
    assert jobs.pending() == 1 + statuses.count(202)


def test_bulk_uploads_keep_to_their_lane(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, jobs: JobStore
) -> None:
    """Also one of a single image, which comes at the same time as single uploads."""

    def bulk(client: FlaskClient) -> Any:
        return client.post("/v1/images/bulk", data={"i": (io.BytesIO(jpeg(7)), "a.jpg", "image/jpeg")})

    app = create_app(settings)
    sent_as_a_group(monkeypatch, app, [sending(jpeg(number)) for number in range(2)], bulk_beside(bulk))
    assert {lane: jobs.client.zcard(PENDING[lane]) for lane in PENDING} == {"single": 3, "bulk": 1}


def bulk_beside(bulk: Send) -> Send:
    """A single upload, and a bulk one right after it."""

    def send(client: FlaskClient) -> Any:
        answer = sending(jpeg(90))(client)
        assert bulk(client).status_code == 202
        return answer

    return send


def test_each_becomes_too_old_by_itself(
    client: FlaskClient, jobs: JobStore, start_worker: Callable[..., object]
) -> None:
    """Their one message says when each does."""
    ids = upload_group(client, [3600, 0.01, None, 0.01])
    assert jobs.client.llen(QUEUES["single"]) == 1
    time.sleep(0.05)
    start_worker()
    wait_settled(jobs, ids)
    states = [job.state.value for job in jobs.read_many(ids) if job is not None]
    assert states == ["classified", "expired", "classified", "expired"]


def test_nothing_stays_where_all_are_rejected(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, jobs: JobStore, objects: ObjectStore
) -> None:
    """The one before them takes the last place in the queue, and their object is removed."""
    before = {key for page in objects.pages(IMAGES) for key in page}
    app = create_app(settings.model_copy(update={"max_queued": 1}))
    answers = sent_as_a_group(monkeypatch, app, [sending(jpeg(number)) for number in range(3)])
    assert [answer.status_code for answer in answers] == [429] * 3
    assert jobs.pending() == 1
    (kept,) = {key for page in objects.pages(IMAGES) for key in page} - before
    assert objects.get(kept) == jpeg(90)


def test_a_key_that_is_used_twice_at_once_makes_one_job(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, jobs: JobStore
) -> None:
    """The same image twice under one idempotency key, in one group."""
    uploads = [
        sending(jpeg(1), Idempotency_Key="k"),
        sending(jpeg(2)),
        sending(jpeg(1), Idempotency_Key="k"),
        sending(jpeg(3), Idempotency_Key="k"),
    ]
    app = create_app(settings)
    *answers, other = sent_as_a_group(monkeypatch, app, uploads)
    first, second, again = the_jobs(jobs, answers)
    assert first == again
    assert other.status_code == 422
    assert [app.test_client().get(f"/v1/jobs/{job.id}/image").data for job in (first, second)] == [
        jpeg(1),
        jpeg(2),
    ]
    assert jobs.pending() == 3


def test_an_outage_of_storage_is_told_to_all(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, jobs: JobStore
) -> None:
    """Each is to come again, and the next group is stored."""
    app = create_app(settings)
    put = ObjectStore.put

    def fails(store: ObjectStore, name: str, data: bytes) -> None:
        if name.endswith(".tar"):
            raise StorageUnavailableError("Storage is away.")
        put(store, name, data)

    monkeypatch.setattr(ObjectStore, "put", fails)
    answers = sent_as_a_group(monkeypatch, app, [sending(jpeg(number)) for number in range(3)])
    assert [answer.status_code for answer in answers] == [503] * 3
    assert jobs.pending() == 1
    assert sending(jpeg())(app.test_client()).status_code == 202


@pytest.mark.parametrize(("error", "kept"), [(RedisUnavailableError("cut"), 1), (RedisFullError("full"), 0)])
def test_images_stay_unless_redis_said_no(
    monkeypatch: pytest.MonkeyPatch,
    client: FlaskClient,
    objects: ObjectStore,
    error: RedisUnavailableError,
    kept: int,
) -> None:
    """After an answer that was cut off the job may be accepted; its image must not go."""
    before = {key for page in objects.pages(IMAGES) for key in page}

    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(JobStore, "accept_many", fails)
    assert sending(jpeg())(client).status_code == 503
    assert len({key for page in objects.pages(IMAGES) for key in page} - before) == kept
