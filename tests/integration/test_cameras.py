"""Names of cameras on the real API and Redis: how many a key may bring, and how they are forgotten."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.cameras import cameras as container_cameras
from core.hours import hour_of
from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome
from core.redis.admission import Idempotency, Submission
from core.redis.api_keys import KeyStore, Scope
from core.redis.camera_names import CameraNames
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger
from core.redis.pending import PendingJobs
from core.settings import Settings, load_settings
from infra.cli.main import cli
from tests.support.calls import post_image
from tests.support.servers import wait_until
from tests.support.stream import assert_balanced

Cameras = Callable[..., Result]


@pytest.fixture
def bounded(settings: Settings) -> FlaskClient:
    """The API with room for two cameras a key, and five in all."""
    return create_app(settings.model_copy(update={"key_cameras": 2, "max_cameras": 5})).test_client()


@pytest.fixture(params=["./wastestream cameras", "python -m api.cameras"])
def cameras(settings: Settings, request: pytest.FixtureRequest) -> Cameras:
    """The commands, on the real Redis, as on a machine and as in a container."""
    runner = CliRunner(env={"WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value()})
    own = request.param == "python -m api.cameras"

    def call(*arguments: str) -> Result:
        load_settings.cache_clear()
        return runner.invoke(*((container_cameras, arguments) if own else (cli, ["cameras", *arguments])))

    return call


def send(client: FlaskClient, camera: str, token: str | None = None, **headers: str) -> TestResponse:
    """Send one image of a camera."""
    key = {"Authorization": f"Bearer {token}"} if token else {}
    return post_image(client, X_Camera_Id=camera, **key, **headers)


def settle_all(jobs: JobStore) -> None:
    """Settle every job, of both lanes."""
    for lane in ("single", "bulk"):
        for job_id in PendingJobs(jobs.client).accepted_before(lane, 2**52, 1000):
            jobs.settle([Outcome(job_id, JobState.FAILED, error="x")], "m")


def names_of(jobs: JobStore) -> set[str]:
    """The cameras that the ledger knows."""
    return {camera.name for camera in Ledger(jobs.client).cameras()}


def test_one_key_cannot_use_up_the_names(bounded: FlaskClient, keys: KeyStore, jobs: JobStore) -> None:
    """It brings as many as a key may; others bring theirs, and known ones are anybody's."""
    greedy, modest, third = (keys.create(name, [Scope.INGEST])[1] for name in ("greedy", "modest", "third"))
    answers = [send(bounded, f"made-up-{number}", greedy).status_code for number in range(6)]
    assert answers == [202, 202, 422, 422, 422, 422]
    rejected = send(bounded, "made-up-9", greedy).get_json(force=True)["detail"]
    assert "this API key has brought 2 already" in rejected
    assert "raise WASTESTREAM_KEY_CAMERAS" in rejected
    assert [send(bounded, name, modest).status_code for name in ("belt-1", "belt-2")] == [202, 202]
    assert send(bounded, "belt-1", greedy).status_code == 202
    assert send(bounded, "made-up-0", modest).status_code == 202
    assert names_of(jobs) == {"made-up-0", "made-up-1", "belt-1", "belt-2"}

    assert [send(bounded, name, third).status_code for name in ("a", "b")] == [202, 422]
    assert "raise WASTESTREAM_MAX_CAMERAS" in send(bounded, "b", third).get_json(force=True)["detail"]
    assert_balanced(jobs)


def test_the_bound_holds_for_uploads_in_one_group(jobs: JobStore) -> None:
    """Each is taken or rejected by itself, in order; without a key there is no bound but the one for all."""
    store = JobStore(jobs.client, key_cameras=2)

    def accepted(owner: str, *names: str) -> list[bool]:
        submissions = [Submission([Job(new_job_id(), name, "jpeg", 1)], owner=owner) for name in names]
        outcomes = store.accept_many(submissions, "single", "test.queue", ["message"])
        return [not isinstance(outcome, Exception) for outcome in outcomes]

    assert accepted("key", "a", "b", "a", "c", "b") == [True, True, True, False, True]
    assert accepted("", "c", "d", "e") == [True] * 3
    assert accepted("key", "c", "f") == [True, False]
    assert accepted("other", "f") == [True]
    assert_balanced(jobs)


def test_a_forgotten_camera_makes_room_at_once(bounded: FlaskClient, keys: KeyStore, jobs: JobStore) -> None:
    """Its rows go, the ledger stays balanced, its results stay; a repeated upload does not bring it back."""
    token = keys.create("sender", [Scope.INGEST, Scope.READ])[1]
    ledger = Ledger(jobs.client)
    kept = send(bounded, "kept", token).get_json()["id"]
    gone = send(bounded, "gone", token, Idempotency_Key="once").get_json()["id"]
    assert send(bounded, "new", token).status_code == 422
    settle_all(jobs)
    assert CameraNames(jobs.client, retention=3600).forget("gone") == 1
    assert names_of(jobs) == {"kept"}
    assert [row.camera for row in ledger.rows(ledger.names("-inf", "+inf", max_rows=10))] == ["kept"]
    assert ledger.balance().counts["received"] == 1
    assert_balanced(jobs)

    own = {"Authorization": f"Bearer {token}"}
    assert bounded.get(f"/v1/jobs/{gone}", headers=own).get_json()["state"] == "failed"
    assert send(bounded, "gone", token, Idempotency_Key="once").get_json()["id"] == gone
    assert names_of(jobs) == {"kept"}
    assert send(bounded, "new", token).status_code == 202
    assert send(bounded, "newer", token).status_code == 422
    assert bounded.get(f"/v1/jobs/{kept}", headers=own).status_code == 200
    assert_balanced(jobs)


def test_a_repeated_upload_does_not_bring_a_forgotten_camera_back(jobs: JobStore) -> None:
    """Nor one that learns only in the step that accepts that it was accepted before."""
    known = Idempotency("once", "digest")

    def accept() -> list[str]:
        return jobs.accept([Job(new_job_id(), "gone", "jpeg", 1)], "single", "q", ["m"], known).ids

    first = accept()
    settle_all(jobs)
    CameraNames(jobs.client, retention=3600).forget("gone")
    assert accept() == first
    assert names_of(jobs) == set()
    assert_balanced(jobs)


def test_a_camera_forgotten_for_its_age_makes_room_too(jobs: JobStore) -> None:
    """As the retention sweep forgets it."""
    store = JobStore(jobs.client, key_cameras=1)
    old = new_job_id()
    store.accept_many([Submission([Job(old, "old", "jpeg", 1)], owner="key")], "single", "q", ["message"])
    store.settle([Outcome(old, JobState.FAILED, error="x")], "m")
    later = hour_of(round((datetime.now(UTC) + timedelta(hours=2)).timestamp() * 1000))
    Ledger(jobs.client).forget(later)
    new = Submission([Job(new_job_id(), "new", "jpeg", 1)], owner="key")
    (outcome,) = store.accept_many([new], "single", "q", ["message"])
    assert not isinstance(outcome, Exception)
    assert jobs.client.hgetall("ws:cameras:key") == {"new": "key"}
    assert jobs.client.hgetall("ws:keys:cameras") == {"key": "1"}


def test_an_operator_sees_and_forgets_cameras(
    cameras: Cameras, client: FlaskClient, keys: KeyStore, jobs: JobStore
) -> None:
    """By name, or by the key that added them; a camera with jobs in progress stays, with exit code 1."""
    assert "no cameras yet" in cameras("list").stderr
    send(client, "belt-1")
    key, token = keys.create("attacker", [Scope.INGEST])
    wait_until(lambda: bool(client.get("/session").get_json()["required"]), "keys to be needed")
    for number in range(3):
        send(client, f"made-up-{number}", token)
    listed = [line.split() for line in cameras("list").stdout.splitlines()]
    assert listed[0][:3] == ["camera", "images", "pending"]
    assert {(line[0], line[1], line[2], line[-1]) for line in listed[1:]} == {
        ("belt-1", "1", "1", "UTC"),
        *((f"made-up-{number}", "1", "1", "attacker") for number in range(3)),
    }
    shown = {row["camera"]: row for row in map(json.loads, cameras("list", "--json").stdout.splitlines())}
    assert shown["belt-1"]["key"] is None
    assert shown["made-up-0"]["key"] == {"id": key.id, "name": "attacker"}

    busy = cameras("forget", "--key", "attacker")
    assert busy.exit_code == 1
    assert "1 images of the camera 'made-up-1' have not settled" in busy.stderr
    settle_all(jobs)
    keys.revoke("attacker")
    done = cameras("forget", "--key", key.id)
    assert done.exit_code == 0, done.output
    assert done.stdout.count("Forgot the camera made-up-") == 3
    assert names_of(jobs) == {"belt-1"}
    assert cameras("forget", "belt-1").stdout == "Forgot the camera belt-1 (1 images).\n"
    assert names_of(jobs) == set()
    assert not jobs.client.keys("ws:ledger*")
    assert not jobs.client.keys("ws:*cameras*")
    assert_balanced(jobs)


def test_an_operator_renames_a_camera(cameras: Cameras, client: FlaskClient, jobs: JobStore) -> None:
    """Once its jobs have settled; with --merge to the name of another. Jobs keep the old name."""
    sent = [send(client, name).get_json()["id"] for name in ("belt-11", "belt-1")]
    busy = cameras("rename", "belt-11", "belt-2")
    assert (busy.exit_code, "have not settled" in busy.stderr) == (1, True)
    settle_all(jobs)
    taken = cameras("rename", "belt-11", "belt-1")
    assert (taken.exit_code, "There is a camera 'belt-1' already" in taken.stderr) == (1, True)
    assert names_of(jobs) == {"belt-1", "belt-11"}
    assert (
        "Renamed the camera belt-11 to belt-1 (1 images"
        in cameras("rename", "belt-11", "belt-1", "--merge").stdout
    )
    ledger = Ledger(jobs.client)
    (row,) = ledger.rows(ledger.names("-inf", "+inf", max_rows=10))
    assert (row.camera, row.counts["received"], row.counts["failed"], row.counts.balanced) == (
        "belt-1",
        2,
        2,
        True,
    )
    assert_balanced(jobs)
    assert [client.get(f"/v1/jobs/{job}").get_json()["camera"] for job in sent] == ["belt-11", "belt-1"]
    assert client.get(f"/v1/jobs/{sent[0]}/image").status_code == 200


def test_a_renamed_camera_stays_that_of_its_key(bounded: FlaskClient, keys: KeyStore, jobs: JobStore) -> None:
    """Its place among those of the key is neither lost nor taken twice."""
    token = keys.create("sender", [Scope.INGEST])[1]
    for name in ("a", "b"):
        send(bounded, name, token)
    settle_all(jobs)
    names = CameraNames(jobs.client, retention=3600)
    names.rename("a", "c")
    assert send(bounded, "new", token).status_code == 422
    names.rename("b", "c", merge=True)
    assert send(bounded, "new", token).status_code == 202
    assert send(bounded, "newer", token).status_code == 422
    assert names_of(jobs) == {"c", "new"}


def test_a_name_is_found_however_it_is_typed(cameras: Cameras, jobs: JobStore) -> None:
    """With a letter and its mark apart, as macOS gives file names."""
    jobs.accept([Job(new_job_id(), "T\u00fcr", "jpeg", 1)], "single", "q", ["m"])
    settle_all(jobs)
    assert cameras("forget", " Tu\u0308r").stdout.startswith("Forgot the camera T\u00fcr (")


def test_what_cannot_be_forgotten_is_named(cameras: Cameras) -> None:
    """In a sentence, with exit code 1, or 2 for a wrong command line."""
    for arguments, code, says in (
        (["nowhere"], 1, "There is no camera 'nowhere'"),
        (["--key", "nobody"], 1, "No key has the name or id 'nobody'"),
        ([], 2, "Name the cameras to forget"),
        (["a", "--key", "b"], 2, "Name the cameras to forget"),
    ):
        result = cameras("forget", *arguments)
        assert (result.exit_code, says in result.stderr) == (code, True), result.output
