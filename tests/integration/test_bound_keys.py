"""Keys that are bound to cameras: no route takes or shows anything of another camera for them."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from api.auth.policy import is_by_camera, scope_of
from core.errors import KeyBindingError
from core.ids import new_job_id
from core.jobs import JobState, Outcome, Prediction
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.support.images import jpeg
from tests.support.servers import wait_until

OWN, ALSO_OWN, FOREIGN = "belt-1", "line2-left", "secret-cam"
PATTERNS = ("belt-1", "line2-*")


@dataclass(frozen=True)
class World:
    """An API with jobs of three cameras, one queued and one classified of each, and a key bound to two.

    `jobs`: the ids of each camera's jobs. `bound`: header with the key. `free`: with one of all cameras.
    """

    client: FlaskClient
    jobs: Mapping[str, list[str]]
    bound: dict[str, str]
    free: dict[str, str]

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        """Call the API with the bound key; check that the answer names nothing foreign that was not sent."""
        headers = {**self.bound, **options.pop("headers", {})}
        sent = f"{path} {headers} {options}"
        response = self.client.open(path, method=method, headers=headers, **options)
        for secret in (FOREIGN, *self.jobs[FOREIGN]):
            assert secret in sent or secret.encode() not in response.data
        return response


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    """The API with every route open, direct uploads too."""
    public = settings.s3_endpoint.replace("127.0.0.1", "localhost")
    return create_app(settings.model_copy(update={"s3_public_endpoint": public})).test_client()


@pytest.fixture
def world(client: FlaskClient, settings: Settings, jobs: JobStore) -> World:
    """The world of these tests."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    both = [Scope.INGEST, Scope.READ]
    free, bound = (
        {"Authorization": f"Bearer {keys.create(name, both, cameras=cameras)[1]}"}
        for name, cameras in (("free", ()), ("bound", PATTERNS))
    )
    wait_until(lambda: client.get("/metrics", headers=free).status_code == 200, "the key to work")
    ids = {camera: [upload(client, free, camera) for _ in range(2)] for camera in (OWN, ALSO_OWN, FOREIGN)}
    found = Prediction("biodegradable", 0.9, review=False)
    jobs.settle([Outcome(job_ids[1], JobState.CLASSIFIED, found) for job_ids in ids.values()], "m")
    return World(client, ids, bound, free)


def upload(client: FlaskClient, headers: dict[str, str], camera: str) -> str:
    """Upload an image; return the id of its job."""
    sent = {**headers, "Content-Type": "image/jpeg", "X-Camera-Id": camera}
    response = client.post("/v1/images", data=jpeg(), headers=sent)
    assert response.status_code == 202, response.text
    return str(response.get_json()["id"])


SLOT = {"size": len(jpeg()), "media_type": "image/jpeg"}


def announced(world: World, headers: dict[str, str], camera: str) -> str:
    """Announce an image and put it into storage; return the id of the upload."""
    made = world.client.post("/v1/uploads", json={"files": [{**SLOT, "camera": camera}]}, headers=headers)
    (slot,) = made.get_json()["uploads"]
    stored = httpx.put(slot["url"], content=jpeg(), headers=slot["headers"], trust_env=False)
    assert stored.status_code == 200
    return str(slot["id"])


def assert_rejected(response: TestResponse, status: int, kind: str) -> str:
    """Check that the response is this problem; return its sentence."""
    assert response.status_code == status, response.text
    problem = response.get_json(force=True)
    assert problem["type"] == f"/problems/{kind}"
    return str(problem["detail"])


def unknown_as_never_made(world: World, method: str, path: str) -> None:
    """Check that each job of the foreign camera is answered in the words for a job that does not exist."""
    none = new_job_id()
    never = assert_rejected(world.call(method, path.format(none)), 404, "job-not-found")
    for job_id in world.jobs[FOREIGN]:
        said = assert_rejected(world.call(method, path.format(job_id)), 404, "job-not-found")
        assert said == never.replace(none, job_id)


def uploads(world: World) -> None:
    """Own cameras are taken; another, and the one that counts without a header, is not, whatever is sent."""
    kind = {"Content-Type": "image/jpeg"}
    for camera in (OWN, ALSO_OWN, "line2-"):
        sent = world.call("POST", "/v1/images", data=jpeg(), headers={**kind, "X-Camera-Id": camera})
        assert sent.status_code == 202
    for headers in (kind, {**kind, "X-Camera-Id": FOREIGN}, {**kind, "X-Camera-Id": "Belt-1"}):
        for body in (jpeg(), b"no image"):
            assert_rejected(
                world.call("POST", "/v1/images", data=body, headers=headers), 403, "camera-forbidden"
            )


def bulk_uploads(world: World) -> None:
    """The camera of the headers, or each file's own, where it has one."""

    def send(headers: dict[str, str], metadata: object = None) -> TestResponse:
        data: dict[str, Any] = {} if metadata is None else {"metadata": json.dumps(metadata)}
        data["images"] = [(io.BytesIO(jpeg(number)), "a.jpg", "image/jpeg") for number in range(3)]
        return world.call("POST", "/v1/images/bulk", data=data, headers=headers)

    assert send({"X-Camera-Id": OWN}).status_code == 202
    assert_rejected(send({"X-Camera-Id": FOREIGN}), 403, "camera-forbidden")
    assert_rejected(send({}), 403, "camera-forbidden")
    mixed = send({}, {"files": [{"camera": OWN}, {"camera": FOREIGN}, {}]}).get_json()["items"]
    assert [item["status"] for item in mixed] == [202, 403, 403]
    assert [item["error"]["type"] for item in mixed[1:]] == ["/problems/camera-forbidden"] * 2


def announcing(world: World) -> None:
    """One image of another camera, or of the one that counts without a camera, rejects the call."""
    assert announced(world, world.bound, OWN)
    for camera in ({"camera": FOREIGN}, {}):
        files = [{**SLOT, "camera": OWN}, {**SLOT, **camera}]
        assert_rejected(world.call("POST", "/v1/uploads", json={"files": files}), 403, "camera-forbidden")


def completing(world: World) -> None:
    """What others announced is unknown, of own cameras too."""
    senders = ((world.bound, OWN), (world.free, OWN), (world.free, FOREIGN))
    ids = [announced(world, headers, camera) for headers, camera in senders]
    items = world.call("POST", "/v1/uploads/complete", json={"uploads": ids}).get_json()["items"]
    assert ["job" in item for item in items] == [True, False, False]
    assert len({(item["status"], item["error"]["type"]) for item in items[1:]}) == 1


def job(world: World) -> None:
    """Own jobs are read; a foreign one is unknown at once, also to those who would wait for it."""
    for camera in (OWN, ALSO_OWN):
        for job_id in world.jobs[camera]:
            assert world.call("GET", f"/v1/jobs/{job_id}").get_json()["camera"] == camera
    unknown_as_never_made(world, "GET", "/v1/jobs/{}")
    began = time.monotonic()
    unknown_as_never_made(world, "GET", "/v1/jobs/{}?wait=30")
    assert time.monotonic() - began < 25


def cancelling(world: World) -> None:
    """It cancels what it sent; nothing else exists, of own cameras either."""
    mine = upload(world.client, world.bound, OWN)
    unknown_as_never_made(world, "DELETE", "/v1/jobs/{}")
    assert_rejected(world.call("DELETE", f"/v1/jobs/{world.jobs[OWN][0]}"), 404, "job-not-found")
    assert world.call("DELETE", f"/v1/jobs/{mine}").get_json()["state"] == "cancelled"


def query(world: World) -> None:
    """Foreign ids are among the unknown."""
    ids = [job_id for camera in (OWN, FOREIGN, ALSO_OWN) for job_id in world.jobs[camera]]
    found = world.call("POST", "/v1/jobs/query", json={"ids": ids}).get_json()
    assert {job["camera"] for job in found["jobs"]} == {OWN, ALSO_OWN}
    assert found["unknown"] == world.jobs[FOREIGN]


def image(world: World) -> None:
    """Own images are shown; a foreign one is not, nor whether a browser has it."""
    assert world.call("GET", f"/v1/jobs/{world.jobs[OWN][0]}/image").data == jpeg()
    unknown_as_never_made(world, "GET", "/v1/jobs/{}/image")
    foreign = world.jobs[FOREIGN][0]
    kept = world.call("GET", f"/v1/jobs/{foreign}/image", headers={"If-None-Match": f'"{foreign}"'})
    assert_rejected(kept, 404, "job-not-found")


def events(world: World) -> None:
    """A stream begins with results of own cameras only; `test_events` reads on."""
    stream = world.call("GET", "/v1/events?from=2026-01-01").text
    data = [line[6:] for line in stream.splitlines() if line.startswith("data: ")]
    own = [json.loads(document)["id"] for document in data]
    assert own == [world.jobs[OWN][1], world.jobs[ALSO_OWN][1]]
    assert_rejected(world.call("GET", f"/v1/events?camera={FOREIGN}"), 403, "camera-forbidden")


def results(world: World) -> None:
    """The feed has results of own cameras only, and the end is soon reached."""
    page = world.call("GET", "/v1/results").get_json()
    assert [job["id"] for job in page["results"]] == [world.jobs[OWN][1], world.jobs[ALSO_OWN][1]]
    one = world.call("GET", "/v1/results?limit=1").get_json()
    rest = world.call("GET", f"/v1/results?after={one['next']}").get_json()
    assert ([job["camera"] for job in rest["results"]], rest["end"]) == ([ALSO_OWN], True)
    assert_rejected(world.call("GET", f"/v1/results?camera={FOREIGN}"), 403, "camera-forbidden")


def ledger(world: World) -> None:
    """Rows and sums of own cameras only, nothing of the whole system; CSV as well."""
    page = world.call("GET", "/v1/ledger").get_json()
    assert [row["camera"] for row in page["rows"]] == [OWN, ALSO_OWN]
    assert (page["sum"]["received"], page["system"], page["balanced"]) == (4, None, True)
    assert world.call("GET", f"/v1/ledger?camera={OWN}").get_json()["sum"]["received"] == 2
    assert FOREIGN not in world.call("GET", "/v1/ledger?format=csv").text
    for camera in (FOREIGN, "never-sent"):
        assert_rejected(world.call("GET", f"/v1/ledger?camera={camera}"), 403, "camera-forbidden")


def cameras(world: World) -> None:
    """Own cameras are shown; only they are reported. The rest needs admin, which cannot be bound."""
    document = {"gateway": "0123456789abcdef", "silent_after": 15, "spooled": 0, "hours": []}
    for camera in (OWN, FOREIGN):
        world.client.post(f"/v1/cameras/{camera}/report", json=document, headers=world.free)
    shown = world.call("GET", "/v1/cameras").get_json()["cameras"]
    assert {camera["id"] for camera in shown} == {OWN, ALSO_OWN}
    assert world.call("POST", f"/v1/cameras/{OWN}/report", json=document).status_code == 202
    assert_rejected(
        world.call("POST", f"/v1/cameras/{FOREIGN}/report", json=document), 403, "camera-forbidden"
    )
    for method, path in (("PUT", OWN), ("DELETE", OWN), ("POST", f"{OWN}/rename")):
        assert_rejected(world.call(method, f"/v1/cameras/{path}", json={}), 403, "insufficient-scope")


def metrics(world: World) -> None:
    """They are of all cameras."""
    assert_rejected(world.call("GET", "/metrics"), 403, "camera-forbidden")


def webhooks(world: World) -> None:
    """They carry everything out, so they need admin, which cannot be bound."""
    for method, path in (
        ("POST", "/v1/webhooks"),
        ("GET", "/v1/webhooks"),
        ("DELETE", "/v1/webhooks/1"),
        ("POST", "/v1/webhooks/1/replay"),
    ):
        assert_rejected(world.call(method, path), 403, "insufficient-scope")


def readiness(world: World) -> None:
    """What it says of the whole system it says to no bound key."""
    assert set(world.call("GET", "/readyz").get_json()) <= {"status", "checks", "warnings", "paused"}
    assert "pending" in world.client.get("/readyz", headers=world.free).get_json()


def job_list(world: World) -> None:
    """It has the jobs of the key's cameras, of any sender."""
    ids = [job["id"] for job in world.call("GET", "/v1/jobs").get_json()["jobs"]]
    assert ids == [*world.jobs[OWN], *world.jobs[ALSO_OWN]]
    page = world.call("GET", "/v1/jobs?limit=5").get_json()
    rest = world.call("GET", f"/v1/jobs?limit=5&after={page['next']}").get_json()
    assert [job["id"] for job in (*page["jobs"], *rest["jobs"])] == ids
    assert_rejected(world.call("GET", f"/v1/jobs?camera={FOREIGN}"), 403, "camera-forbidden")


def retrying(world: World) -> None:
    """Others' jobs are unknown, as if they did not exist."""
    unknown_as_never_made(world, "POST", "/v1/jobs/{}/retry")


def retrying_all(world: World) -> None:
    """Only the key's own jobs are retried; a foreign camera must not be named."""
    outcome = world.call("POST", "/v1/jobs/retry", json={"states": ["failed", "expired"]})
    assert outcome.get_json() == {"items": [], "next": None}
    for camera in (FOREIGN, "never-seen"):
        named = {"states": ["failed"], "camera": camera}
        assert_rejected(world.call("POST", "/v1/jobs/retry", json=named), 403, "camera-forbidden")


def session(world: World) -> None:
    """It shows what the key is bound to, also to the page that signs in with it."""
    assert world.call("GET", "/session").get_json()["cameras"] == list(PATTERNS)
    token = world.bound["Authorization"].removeprefix("Bearer ")
    signed_in = world.client.post("/session", json={"key": token}, headers={"Origin": "http://localhost"})
    assert signed_in.get_json()["cameras"] == list(PATTERNS)
    assert world.client.get("/session", headers=world.free).get_json()["cameras"] is None


CHECKS: Mapping[str, Callable[[World], None] | None] = {
    "images.upload": uploads,
    "images.upload_bulk": bulk_uploads,
    "uploads.announce": announcing,
    "uploads.complete": completing,
    "jobs.list_jobs": job_list,
    "jobs.show": job,
    "retries.retry": retrying,
    "retries.retry_all": retrying_all,
    "jobs.cancel": cancelling,
    "jobs.query": query,
    "jobs.image": image,
    "results.show": results,
    "events.stream": events,
    "ledger.show": ledger,
    **dict.fromkeys(("cameras.show", "cameras.report"), cameras),
    **dict.fromkeys(("cameras.describe", "cameras.delete", "cameras.rename"), cameras),
    "metrics.show": metrics,
    **dict.fromkeys(("webhooks.create", "webhooks.show", "webhooks.delete", "webhooks.replay"), webhooks),
    "probes.readyz": readiness,
    "session.show": session,
    "session.sign_in": session,
    "session.sign_out": None,
    "probes.livez": None,
    "reference.openapi": None,
    "reference.docs": None,
    "reference.problem": None,
    "pages.page": None,
    "pages.static": None,
}
"""Endpoint to the check that it keeps to a bound key's cameras; None where it knows of no camera.

A new route fails the test below until it is decided on here.
"""


def test_every_route_is_decided_on(client: FlaskClient) -> None:
    """One that was forgotten, or that says nothing of cameras, rejects bound keys."""
    app = client.application
    assert set(app.view_functions) == set(CHECKS)
    for endpoint, check in CHECKS.items():
        assert check is not None or scope_of(app, endpoint) is None
    app.view_functions["forgotten"] = lambda: ""
    assert not is_by_camera(app, "forgotten")


@pytest.mark.parametrize("endpoint", [endpoint for endpoint, check in CHECKS.items() if check])
def test_a_bound_key_is_for_its_cameras(world: World, endpoint: str) -> None:
    """As the endpoint's check says; `World.call` looks for other cameras in every answer."""
    check = CHECKS[endpoint]
    assert check is not None
    check(world)


def test_a_bound_key_meets_itself_in_its_idempotency_keys(world: World) -> None:
    """What it sent before it finds again; what others sent under the same name it does not."""
    kind = {"Content-Type": "image/jpeg", "Idempotency-Key": "1"}
    others = world.client.post("/v1/images", data=jpeg(), headers={**kind, **world.free, "X-Camera-Id": OWN})
    mine = [
        world.call("POST", "/v1/images", data=jpeg(), headers={**kind, "X-Camera-Id": OWN}).get_json()["id"]
        for _ in range(2)
    ]
    assert mine[0] == mine[1] != others.get_json()["id"]


def test_admin_cannot_be_bound(settings: Settings) -> None:
    """A key with full access is bound to nothing."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    with pytest.raises(KeyBindingError, match="leave one out"):
        keys.create("k", [Scope.READ, Scope.ADMIN], cameras=[OWN])
    assert keys.all() == []


def test_a_key_of_before_is_for_all_cameras(settings: Settings) -> None:
    """Its record says nothing of cameras."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    key, _ = keys.create("k", [Scope.READ])
    record = json.loads(str(keys._client.hget("ws:keys", key.id)))
    assert "cameras" not in record
    assert keys.all()[0].sees("any")
