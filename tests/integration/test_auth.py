"""API keys on the real API and Redis: access, its changes, and the rights of a key."""

from __future__ import annotations

import hashlib
import re
import time
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api import integrity
from api.app import create_app
from api.auth import key_cache
from api.auth.key_cache import KeyCache
from api.auth.policy import scope_of
from core.errors import RedisUnavailableError
from core.ids import new_job_id
from core.jobs import JobState, Outcome, Prediction
from core.messages import QUEUES
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.keys import PENDING
from core.settings import Settings
from core.storage import ObjectStore
from infra.local.programs import REDIS
from tests.support.calls import assert_problem, bearer, post_image, post_jpegs
from tests.support.images import jpeg
from tests.support.servers import Server, free_port, program, wait_until
from tests.support.stream import assert_balanced

ACCESS = {
    "images.upload": Scope.INGEST,
    "images.upload_bulk": Scope.INGEST,
    "uploads.announce": Scope.INGEST,
    "uploads.complete": Scope.INGEST,
    "jobs.show": Scope.READ,
    "jobs.cancel": Scope.INGEST,
    "jobs.query": Scope.READ,
    "jobs.image": Scope.READ,
    "jobs.list_jobs": Scope.READ,
    "retries.retry": Scope.INGEST,
    "retries.retry_all": Scope.INGEST,
    "webhooks.create": Scope.ADMIN,
    "webhooks.show": Scope.ADMIN,
    "webhooks.delete": Scope.ADMIN,
    "webhooks.replay": Scope.ADMIN,
    "cameras.show": Scope.READ,
    "cameras.describe": Scope.ADMIN,
    "cameras.report": Scope.INGEST,
    "cameras.delete": Scope.ADMIN,
    "cameras.rename": Scope.ADMIN,
    "ledger.show": Scope.READ,
    "results.show": Scope.READ,
    "events.stream": Scope.READ,
    "metrics.show": Scope.READ,
    "probes.livez": None,
    "probes.readyz": None,
    "session.show": None,
    "session.sign_in": None,
    "session.sign_out": None,
    "reference.openapi": None,
    "reference.docs": None,
    "reference.problem": None,
    "pages.page": None,
    "pages.static": None,
}
"""Endpoint to its scope. A new route fails the test below until it stands here."""


def ask(client: FlaskClient, token: str) -> int:
    """Return the status for an unknown job: 404 for callers with access."""
    return client.get("/v1/jobs/none", headers=bearer(token)).status_code


# ---- Who gets in -------------------------------------------------------------------------------


def test_every_route_says_who_may_call_it(client: FlaskClient) -> None:
    """Each is decided on; one that was forgotten needs admin."""
    app = client.application
    assert {name: scope_of(app, name) for name in app.view_functions} == ACCESS
    app.view_functions["forgotten"] = lambda: ""
    assert scope_of(app, "forgotten") is Scope.ADMIN


def test_without_keys_everyone_at_this_machine_may_call(client: FlaskClient) -> None:
    """As `up` starts it the first time."""
    assert post_image(client).status_code == 202
    assert client.get("/session").get_json() == {
        "required": False,
        "key": None,
        "cameras": None,
    }


@pytest.mark.parametrize("endpoint", [name for name, scope in ACCESS.items() if scope])
def test_with_keys_every_call_needs_the_right_one(client: FlaskClient, keys: KeyStore, endpoint: str) -> None:
    """401 without a key, 403 with the wrong scope, both with the remedy; the right scope and admin pass."""
    tokens = {scope: keys.create(scope.value, [scope])[1] for scope in Scope}
    rule = next(rule for rule in client.application.url_map.iter_rules() if rule.endpoint == endpoint)
    method = next(iter((rule.methods or set()) - {"HEAD", "OPTIONS"}))
    path = re.sub(r"<[\w:]+>", new_job_id(), rule.rule)

    without = client.open(path, method=method)
    assert_problem(without, 401, "Authorization: Bearer")
    assert without.headers["WWW-Authenticate"] == 'Bearer realm="wastestream"'

    needed = ACCESS[endpoint]
    assert needed is not None
    wrong = client.open(
        path, method=method, headers=bearer(tokens[Scope(({"ingest", "read"} - {needed}).pop())])
    )
    assert_problem(wrong, 403, f"the scope '{needed.value}'")
    assert 'error="insufficient_scope"' in wrong.headers["WWW-Authenticate"]

    for scope in (needed, Scope.ADMIN):
        passed = client.open(path, method=method, headers=bearer(tokens[scope]))
        assert passed.status_code not in {401, 403, 500}


def test_health_and_page_stay_open(client: FlaskClient, keys: KeyStore) -> None:
    """Probes and people who have yet to sign in have no key."""
    keys.create("k", [Scope.ADMIN])
    for path in ("/livez", "/readyz", "/", "/assets/page.js", "/session"):
        with client.get(path) as response:
            assert response.status_code == 200
    assert client.get("/v1/nothing").status_code == 404


def _variants(token: str) -> dict[str, str]:
    """Return headers that are nearly right."""
    mark, key_id, secret = token.split("_")
    return {
        "another secret": f"Bearer {mark}_{key_id}_{'0' * len(secret)}",
        "no secret": f"Bearer {mark}_{key_id}_",
        "the id alone": f"Bearer {key_id}",
        "another id": f"Bearer {mark}_0000000000_{secret}",
        "no key": "Bearer",
        "empty": "",
        "cut off": f"Bearer {token[:-1]}",
        "one more": f"Bearer {token}0",
        "very long": "Bearer " + "x" * 5000,
        "its hash": f"Bearer {hashlib.sha256(token.encode()).hexdigest()}",
        "another scheme": f"Basic {token}",
        "no scheme": token,
        "not ASCII": "Bearer ws_\xe4_\xff",
        "redis": "Bearer ws_*_\r\n".strip() + "_x",
    }


@pytest.mark.parametrize("variant", _variants("a_b_c"))
def test_what_is_nearly_a_key_is_none(client: FlaskClient, keys: KeyStore, variant: str) -> None:
    """401 for everything but the key itself, and the answer never repeats the text."""
    _, token = keys.create("k", [Scope.ADMIN])
    sent = _variants(token)[variant]
    response = client.get("/v1/jobs/none", headers={"Authorization": sent})
    assert_problem(response, 401, "key")
    assert token.rpartition("_")[2] not in response.text


def test_the_scheme_is_read_as_http_has_it(client: FlaskClient, keys: KeyStore) -> None:
    """Its letters' case does not matter."""
    _, token = keys.create("k", [Scope.READ])
    assert client.get("/v1/jobs/none", headers={"Authorization": f"bearer  {token} "}).status_code == 404


def test_only_a_hash_is_stored(settings: Settings, keys: KeyStore) -> None:
    """Nothing in Redis holds the key or its secret part."""
    _, token = keys.create("k", [Scope.READ])
    redis = connect(settings.redis_url.get_secret_value())
    stored = str(redis.hgetall("ws:keys"))
    assert token.rpartition("_")[2] not in stored
    assert hashlib.sha256(token.encode()).hexdigest() in stored


def test_changes_are_known_soon(client: FlaskClient, keys: KeyStore) -> None:
    """A new key works at once or nearly so, a revoked one for two seconds at most; others go on."""
    _, first = keys.create("first", [Scope.READ])
    assert ask(client, first) == 404
    _, second = keys.create("second", [Scope.READ])
    wait_until(lambda: ask(client, second) == 404, "the new key to work", 5)
    keys.revoke("second")
    wait_until(lambda: ask(client, second) == 401, "the revoked key to be rejected", 10)
    assert key_cache.REFRESH_SECONDS <= 2
    assert ask(client, first) == 404


def test_an_expired_key_is_rejected(client: FlaskClient, keys: KeyStore) -> None:
    """From that very moment on, without asking Redis."""
    _, token = keys.create("k", [Scope.READ], expires_ms=time.time_ns() // 1_000_000 + 700)
    assert ask(client, token) == 404
    wait_until(lambda: ask(client, token) == 401, "the key to expire", 5)


def test_revoking_the_last_key_opens_nothing(client: FlaskClient, keys: KeyStore) -> None:
    """Once keys were asked for, they are until there is another."""
    keys.create("k", [Scope.READ])
    keys.revoke("k")
    assert_problem(post_image(client), 401, "needs an API key")


def test_checking_keys_asks_redis_nothing(settings: Settings, client: FlaskClient, keys: KeyStore) -> None:
    """Neither for a known key, nor however many unknown ones are tried."""
    _, token = keys.create("k", [Scope.READ])
    assert ask(client, token) == 404
    redis = connect(settings.redis_url.get_secret_value())

    def commands() -> int:
        return int(redis.info("stats")["total_commands_processed"])

    for name, allowed_in_a_second in (
        (token, 1 / key_cache.REFRESH_SECONDS),
        ("ws_0123456789_x", 1 / key_cache.MISS_REFRESH_SECONDS),
    ):
        before, began = commands(), time.monotonic()
        for _ in range(300):
            ask(client, name)
        seconds = time.monotonic() - began
        # The command that asks counts itself; the cache may be due once at the beginning. Requests also read
        # the installation's mark.
        in_a_second = allowed_in_a_second + 1 / integrity.REDIS_MAX_AGE
        assert commands() - before <= 4 + seconds * in_a_second
    assert ask(client, token) == 404


def test_with_redis_down_the_answer_is_503(settings: Settings, tmp_path: Path) -> None:
    """Not 401, since the key may be good; when Redis is back it is known again. The settings' key goes on.

    Not before Redis was seen: only it can tell whether its data are there.
    """
    port = free_port()
    down = settings.model_copy(
        update={
            "redis_url": SecretStr(f"redis://127.0.0.1:{port}/0"),
            "admin_key_sha256": hashlib.sha256(b"from-the-settings").hexdigest(),
        }
    )
    client = create_app(down).test_client()
    assert_problem(client.get("/v1/jobs/none", headers=bearer("ws_0_0")), 503, "try again")
    assert ask(client, "from-the-settings") == 503
    assert client.get("/livez").status_code == 200
    command = [program(*REDIS), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(tmp_path)]
    server = Server([*command, "--save", ""], tmp_path / "log", port=port)
    server.start()
    try:
        _, token = KeyStore(connect(down.redis_url.get_secret_value())).create("k", [Scope.READ])
        wait_until(lambda: ask(client, token) == 404, "the key to be known", 10)
    finally:
        server.stop()
    assert ask(client, token) == 404
    assert ask(client, "from-the-settings") == 404


def test_the_key_cache_is_not_used_for_ever(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Redis is down even a key that was valid gets 503."""
    store = KeyStore(connect(settings.redis_url.get_secret_value()))
    _, token = store.create("k", [Scope.READ])
    cache = KeyCache(store)
    assert cache.find(token) is not None
    monkeypatch.setattr(key_cache, "REFRESH_SECONDS", -1.0)
    monkeypatch.setattr(store, "_client", connect(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5))
    with pytest.raises(RedisUnavailableError):
        cache.find(token)


def test_losing_every_key_opens_nothing(keys: KeyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither with a call to Redis, nor from the cache alone."""
    keys.create("k", [Scope.READ])
    cache = KeyCache(keys)
    assert cache.has_keys()
    for name in keys._client.scan_iter("ws:*"):
        keys._client.delete(name)  # as a Redis that loses its data
    monkeypatch.setattr(key_cache, "REFRESH_SECONDS", -1.0)
    assert cache.has_keys()
    assert cache.has_seen_keys


# ---- Idempotency keys ---------------------------------------------------------------------------


def test_two_keys_may_use_one_idempotency_key(client: FlaskClient, keys: KeyStore) -> None:
    """An idempotency key of one API key has no effect on another's uploads."""
    tokens = [keys.create(name, [Scope.INGEST])[1] for name in ("one", "two")]
    answers = [post_image(client, **bearer(token), Idempotency_Key="frame-1") for token in tokens]
    assert len({answer.get_json()["id"] for answer in answers}) == 2


def test_repeating_an_upload_shows_no_result_to_who_may_not_read(
    client: FlaskClient, keys: KeyStore, jobs: JobStore
) -> None:
    """The sender learns only that it has settled; a key with `read` sees the result."""
    _, sender = keys.create("camera", [Scope.INGEST])
    _, both = keys.create("both", [Scope.INGEST, Scope.READ])
    prediction = Prediction("biodegradable", 0.9, review=False)
    for token, shown in ((sender, False), (both, True)):
        headers = bearer(token) | {"Idempotency-Key": "1"}
        job_id = post_image(client, **headers).get_json()["id"]
        jobs.settle([Outcome(job_id, JobState.CLASSIFIED, prediction)], "m")
        again = post_image(client, **headers).get_json()
        assert (again["id"], again["state"]) == (job_id, "classified")
        assert (again["prediction"] is not None) is shown


# ---- Whose job it is ---------------------------------------------------------------------------


def test_a_key_cancels_its_own_jobs_only(client: FlaskClient, keys: KeyStore, jobs: JobStore) -> None:
    """To others a job is unknown, in the same words as one that never was, settled or not; admin may all."""
    own, other, reader = (
        bearer(keys.create(name, scopes)[1])
        for name, scopes in (
            ("own", [Scope.INGEST]),
            ("other", [Scope.INGEST]),
            ("reader", [Scope.INGEST, Scope.READ]),
        )
    )
    admin = bearer(keys.create("admin", [Scope.ADMIN])[1])
    ids = [
        item["job"]["id"] for item in post_jpegs(client, ["a.jpg", "b.jpg", "c.jpg"], own).get_json()["items"]
    ]
    jobs.settle([Outcome(ids[2], JobState.CLASSIFIED, Prediction("biodegradable", 0.9, False))], "m")
    unknown = new_job_id()
    missing = assert_problem(client.delete(f"/v1/jobs/{unknown}", headers=other), 404, unknown)["detail"]
    for job_id in ids:
        for headers in (other, reader):
            said = assert_problem(client.delete(f"/v1/jobs/{job_id}", headers=headers), 404, job_id)["detail"]
            assert said == missing.replace(unknown, job_id)
    assert jobs.pending() == 2
    assert jobs.client.zcard(PENDING["bulk"]) == 2
    assert client.delete(f"/v1/jobs/{ids[0]}", headers=own).get_json()["state"] == "cancelled"
    assert_problem(client.delete(f"/v1/jobs/{ids[0]}", headers=other), 404, "There is no job")
    assert client.delete(f"/v1/jobs/{ids[1]}", headers=admin).get_json()["state"] == "cancelled"
    assert client.delete(f"/v1/jobs/{ids[0]}", headers=admin).status_code == 200
    assert_problem(client.delete(f"/v1/jobs/{ids[2]}", headers=own), 409, "is classified already")
    assert_balanced(jobs)


def test_jobs_sent_without_a_key_are_no_keys(client: FlaskClient, keys: KeyStore, jobs: JobStore) -> None:
    """Once there are keys, only admin cancels earlier jobs."""
    job_id = post_image(client).get_json()["id"]
    sender, admin = (keys.create(scope.value, [scope])[1] for scope in (Scope.INGEST, Scope.ADMIN))
    wait_until(lambda: ask(client, "none") == 401, "keys to be needed")
    assert_problem(client.delete(f"/v1/jobs/{job_id}", headers=bearer(sender)), 404, "There is no job")
    assert client.delete(f"/v1/jobs/{job_id}", headers=bearer(admin)).status_code == 200
    assert_balanced(jobs)


# ---- Request ids, names of objects -------------------------------------------------------------


def test_every_answer_has_a_request_id(client: FlaskClient) -> None:
    """The client's own if it is sane, else a new one; in problems too."""
    for path in ("/livez", "/v1/nothing", "/v1/jobs/none", "/"):
        with client.get(path, headers={"X-Request-ID": "belt-1.2026_A"}) as response:
            assert response.headers["X-Request-ID"] == "belt-1.2026_A"
    ids = {client.get("/livez").headers["X-Request-ID"] for _ in range(20)}
    assert len(ids) == 20
    for strange in ("", "x" * 65, "two words", 'a"b', "{jndi:x}", "\xe4", "a/../b"):
        response = client.get("/v1/jobs/none", headers={"X-Request-ID": strange})
        assert re.fullmatch(r"[0-9a-f]{16}", response.headers["X-Request-ID"])
        assert_problem(response, 404, "not a job id")


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "..\\..\\a.jpg",
        "/abs.jpg",
        "a\0b.jpg",
        "images/x/y.jpg",
        "%2e%2e%2f.jpg",
        "." * 300,
    ],
)
def test_object_keys_are_ours_never_a_files_name(
    client: FlaskClient, jobs: JobStore, objects: ObjectStore, name: str
) -> None:
    """A file of any name is stored at images/camera/day/id, and nowhere else."""
    response = post_jpegs(client, [name], {"X-Camera-Id": "belt-1"})
    (item,) = response.get_json()["items"]
    job = jobs.read(item["job"]["id"])
    assert job is not None
    assert re.fullmatch(rf"images/belt-1/\d{{4}}/\d\d/\d\d/{job.id}\.jpeg", job.image_key)
    assert objects.get(job.image_key) == jpeg(0)
    (message,) = jobs.client.lrange(QUEUES["bulk"], 0, -1)
    assert name not in message


@pytest.mark.parametrize("camera", ["..", ".", "a/b", "../x", "a\\b", "a%2fb", "a%00b", "-x"])
def test_a_camera_is_no_path(client: FlaskClient, jobs: JobStore, camera: str) -> None:
    """A camera's id, which is part of the key, cannot leave its folder."""
    assert_problem(post_image(client, X_Camera_Id=camera), 400, "cannot be a camera's id")
    assert jobs.pending() == 0
