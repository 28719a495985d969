"""Redis or storage that has lost everything: nobody takes it for a new installation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from redis import Redis

from api import integrity
from api.app import create_app
from api.installation import LOST, installation_of
from api.installation import installation as container_installation
from core.errors import DataLostError, RedisUnavailableError, StorageUnavailableError
from core.redis.api_keys import KeyStore, Scope
from core.redis.installation import OBJECT, Installation
from core.redis.job_store import JobStore
from core.redis.keys import INSTALLATION
from core.settings import Settings, load_settings
from core.shards import IMAGES
from core.storage import ObjectStore
from infra.cli.main import cli
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.servers import free_port, wait_until
from tests.support.stream import upload
from worker.periodic import retention


@pytest.fixture
def marks(settings: Settings) -> Installation:
    """The marks in the real Redis and the real storage, of which neither has one yet."""
    return installation_of(settings)


def closed(client: FlaskClient, says: str, **headers: str) -> None:
    """Check that every call for or with data is rejected, with the loss and the remedy."""
    calls: list[tuple[str, str]] = [
        ("GET", "/v1/jobs/none"),
        ("GET", "/v1/ledger"),
        ("GET", "/v1/ledger?format=csv"),
        ("GET", "/metrics"),
        ("POST", "/v1/images"),
        ("GET", "/session"),
    ]
    for method, path in calls:
        answer = client.open(path, method=method, data=jpeg() if method == "POST" else None, headers=headers)
        assert answer.status_code == 503, (path, answer.get_data(as_text=True))
        detail = answer.get_json(force=True)["detail"]
        assert says in detail
        assert "installation renew" in detail
        assert int(answer.headers["Retry-After"]) > 0
    assert client.get("/livez").status_code == 200


def readiness(client: FlaskClient) -> dict[str, Any]:
    """The answer of `/readyz` after a new check."""
    client.application.extensions["wastestream"].readiness._last = None
    return dict(client.get("/readyz").get_json())


def wait_open(client: FlaskClient) -> None:
    """Wait until the API answers again."""
    wait_until(lambda: client.get("/v1/jobs/none").status_code != 503, "the API to open", 10)


def forgotten(client: Redis, objects: ObjectStore, which: str) -> None:
    """Lose everything that Redis, storage or both hold, as if nothing had ever been there."""
    if which != "storage":
        client.flushall()
    if which != "redis":
        for page in list(objects.pages("")):
            objects.delete_many(page)


SAYS = {
    "redis": "Redis has lost its data",
    "storage": "Storage has lost its data",
    "both": "Redis and storage have both lost",
}


@pytest.mark.parametrize("which", SAYS)
def test_a_running_api_closes_when_data_are_lost(
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    which: str,
) -> None:
    """At once for uploads and the ledger, soon for the rest; `/readyz` tells everyone why."""
    monkeypatch.setattr(integrity, "STORAGE_MAX_AGE", 0.2)
    upload(client)
    assert readiness(client)["checks"]["installation"] == "ok"
    forgotten(jobs.client, objects, which)
    if which != "storage":
        answer = post_image(client)
        assert answer.status_code == 503
        assert jobs.pending() == 0
        assert client.get("/v1/ledger").status_code == 503
    wait_until(lambda: client.get("/v1/jobs/none").status_code == 503, "the loss to be noticed", 10)
    closed(client, SAYS[which])
    said = readiness(client)
    assert SAYS[which] in said["checks"]["installation"]
    assert (said["status"], said["balanced"]) == ("not ready", None)


@pytest.mark.parametrize("which", ["redis", "storage"])
def test_an_api_that_starts_on_what_is_left_is_closed(
    settings: Settings, client: FlaskClient, jobs: JobStore, objects: ObjectStore, which: str
) -> None:
    """Until a person begins anew; then images and jobs are taken as ever."""
    upload(client)
    forgotten(jobs.client, objects, which)
    again = create_app(settings).test_client()
    closed(again, SAYS[which])
    installation_of(settings).renew()
    for api in (again, client):
        wait_open(api)
        upload(api)
    assert readiness(again)["balanced"] is True


def test_another_installations_redis_is_not_taken(
    settings: Settings, client: FlaskClient, jobs: JobStore
) -> None:
    """Such as one whose address was mixed up, or a backup of another."""
    upload(client)
    jobs.client.set(INSTALLATION, "01ARZ3NDEKTSV4RRFFQ69G5FAV")
    says = "two different installations"
    closed(create_app(settings).test_client(), says)
    wait_until(lambda: client.get("/v1/jobs/none").status_code == 503, "the loss to be noticed", 10)
    closed(client, says)


def test_data_that_are_put_back_open_the_api(client: FlaskClient, jobs: JobStore) -> None:
    """Nothing has to be restarted."""
    job_id = upload(client)
    for key in list(jobs.client.scan_iter("ws:*")):
        jobs.client.move(key, 1)
    wait_until(lambda: client.get(f"/v1/jobs/{job_id}").status_code == 503, "the loss to be noticed", 10)
    jobs.client.swapdb(0, 1)
    wait_open(client)
    assert client.get(f"/v1/jobs/{job_id}").get_json()["state"] == "queued"


def test_a_process_that_has_seen_keys_never_opens(
    client: FlaskClient, jobs: JobStore, keys: KeyStore, marks: Installation
) -> None:
    """Closed to every caller while the keys are missing; after starting over it still requires one."""
    token = keys.create("k", [Scope.ADMIN])[1]
    own = {"Authorization": f"Bearer {token}"}
    assert client.get("/v1/jobs/none", headers=own).status_code == 404
    jobs.client.flushall()
    wait_until(lambda: client.get("/v1/jobs/none").status_code == 503, "the loss to be noticed", 10)
    closed(client, SAYS["redis"])
    closed(client, SAYS["redis"], Authorization=f"Bearer {token}")
    marks.renew()
    wait_open(client)
    assert client.get("/v1/jobs/none").status_code == 401
    assert client.get("/v1/jobs/none", headers=own).status_code == 401


def test_many_processes_that_start_at_once_agree(settings: Settings, marks: Installation) -> None:
    """However their steps fall between each other's, there is one id, and nobody sees a loss."""
    start = threading.Barrier(8)

    def begin() -> str | None:
        own = installation_of(settings)
        start.wait(10)
        return own.compare(make=True)

    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            ids = {future.result() for future in [pool.submit(begin) for _ in range(8)]}
            assert ids == {marks.in_redis()}
            marks._client.delete(INSTALLATION)
            marks._objects.delete_many([OBJECT])


def test_a_first_start_that_was_killed_is_made_up_for(
    marks: Installation, monkeypatch: pytest.MonkeyPatch, jobs: JobStore, objects: ObjectStore
) -> None:
    """Before storage had the mark, and after it: the next start ends what it began."""
    put = ObjectStore.put
    for stored in (False, True):

        def killed(store: ObjectStore, name: str, data: bytes, *, after: bool = stored) -> None:
            if after:
                put(store, name, data)
            raise KeyboardInterrupt

        monkeypatch.setattr(ObjectStore, "put", killed)
        with pytest.raises(KeyboardInterrupt):
            marks.compare(make=True)
        assert marks.in_redis() is None
        monkeypatch.setattr(ObjectStore, "put", put)
        assert marks.compare(make=True) == marks.in_redis() == objects.get(OBJECT).decode()
        jobs.client.flushall()
        objects.delete_many([OBJECT])


def test_what_nobody_can_say_does_not_open(
    settings: Settings, client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """With storage away, an empty Redis may be new or have lost all; one with its mark has its data."""
    job_id = upload(client)
    nowhere = settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{free_port()}"})
    assert create_app(nowhere).test_client().get(f"/v1/jobs/{job_id}").status_code == 200
    jobs.client.flushall()
    started = create_app(nowhere).test_client()
    assert started.get("/v1/jobs/none").status_code == 503
    assert started.get("/session").status_code == 503
    marks = Installation(jobs.client, ObjectStore(nowhere))
    with pytest.raises(StorageUnavailableError):
        marks.compare(make=True)
    assert jobs.client.get(INSTALLATION) is None


def test_images_stay_while_redis_lacks_its_data(
    settings: Settings, client: FlaskClient, jobs: JobStore, objects: ObjectStore
) -> None:
    """The retention sweep cannot know which jobs wait."""
    upload(client)
    jobs.client.flushall()
    with pytest.raises(DataLostError):
        retention.sweep(settings.model_copy(update={"image_retention_hours": 1e-9}))
    assert any(objects.pages(IMAGES))


@pytest.fixture(params=["./wastestream installation", "python -m api.installation"])
def command(settings: Settings, request: pytest.FixtureRequest) -> Callable[..., Result]:
    """The commands, on the real servers, as on a machine and as in a container."""
    variables = {
        "WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value(),
        "WASTESTREAM_S3_ENDPOINT": settings.s3_endpoint,
        "WASTESTREAM_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "WASTESTREAM_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
    }
    runner = CliRunner(env=variables)

    def call(*arguments: str) -> Result:
        load_settings.cache_clear()
        if request.param == "python -m api.installation":
            return runner.invoke(container_installation, arguments)
        return runner.invoke(cli, ["installation", *arguments])

    return call


def test_an_operator_begins_anew(
    command: Callable[..., Result], client: FlaskClient, jobs: JobStore, marks: Installation
) -> None:
    """`show` names the loss; `renew` gives the lost data up, and does nothing without a loss."""
    assert "never been started" in command("show").output
    upload(client)
    known = marks.in_redis()
    for words in (["show"], ["renew"]):
        result = command(*words)
        assert (result.exit_code, f"belong together (installation {known})" in result.output) == (0, True)
    assert marks.in_redis() == known
    jobs.client.flushall()
    lost = command("show")
    assert (lost.exit_code, SAYS["redis"] in lost.stderr) == (LOST, True)
    assert command("renew").exit_code == 0
    assert marks.in_redis() not in {None, known}
    assert command("show").exit_code == 0


def test_without_redis_there_is_no_verdict(settings: Settings) -> None:
    """It is one error of ours, and no loss."""
    nowhere = settings.model_copy(
        update={"redis_url": type(settings.redis_url)(f"redis://127.0.0.1:{free_port()}/0")}
    )
    with pytest.raises(RedisUnavailableError):
        installation_of(nowhere).compare(make=True)
