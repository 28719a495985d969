"""API keys on the real API and Redis: access, its changes, and the rights of a key."""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from werkzeug.test import TestResponse

from api import integrity
from api.app import create_app
from api.auth import key_cache
from api.auth.key_cache import KeyCache, settings_key
from api.auth.policy import COOKIE, check_address, scope_of
from core.errors import RedisUnavailableError, SettingsError
from core.ids import new_job_id
from core.jobs import JobState, Outcome, Prediction
from core.messages import QUEUES
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.keys import PENDING
from core.settings import Settings
from core.shards import IMAGES, Shard
from core.storage import ObjectStore
from infra.local.programs import REDIS
from tests.support.calls import assert_problem, post_image
from tests.support.images import jpeg
from tests.support.servers import Server, free_port, program, wait_until
from tests.support.stream import assert_balanced

OWN_PAGE = {"Origin": "http://localhost"}
SLOW = 0.001  # images a second: nothing comes back while a test runs

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


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a key."""
    return {"Authorization": f"Bearer {token}"}


def bulk(
    client: FlaskClient, names: Sequence[str], headers: Mapping[str, str] = MappingProxyType({})
) -> TestResponse:
    """Send one image for each file name."""
    parts = [(io.BytesIO(jpeg(seed)), name, "image/jpeg") for seed, name in enumerate(names)]
    return client.post("/v1/images/bulk", data={"i": parts}, headers=dict(headers))


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


# ---- Where it listens --------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.10", "::", "belt.example"])  # noqa: S104
def test_an_address_that_others_reach_needs_a_key(settings: Settings, keys: KeyStore, host: str) -> None:
    """The sentence says how to get one; with one, or told so, it listens, but never to nobody."""
    there = settings.model_copy(update={"host": host})
    cache = KeyCache(keys)
    with pytest.raises(SettingsError, match=rf"listen on {host}.*keys create.*AUTH=off"):
        check_address(there, cache)
    check_address(there.model_copy(update={"auth": "off"}), cache)
    hashed = there.model_copy(update={"admin_key_sha256": "0" * 64})
    check_address(hashed, KeyCache(keys, settings_key(hashed)))
    assert_problem(post_image(create_app(there).test_client()), 401, "needs an API key")
    keys.create("k", [Scope.ADMIN])
    check_address(there, KeyCache(keys))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_none(settings: Settings, keys: KeyStore, host: str) -> None:
    """It says in the log that it is open."""
    check_address(settings.model_copy(update={"host": host}), KeyCache(keys))


def test_keys_can_be_demanded_and_waived(settings: Settings, keys: KeyStore) -> None:
    """`required` asks though there is none, `off` does not though there is."""
    demanding = settings.model_copy(update={"auth": "required"})
    assert_problem(post_image(create_app(demanding).test_client()), 401, "needs an API key")
    keys.create("k", [Scope.READ])
    waiving = create_app(settings.model_copy(update={"auth": "off"})).test_client()
    assert waiving.get("/v1/jobs/none", headers={"Host": "belt.example"}).status_code == 404


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "10.0.0.1:8000"])
def test_what_is_open_answers_to_own_names_only(client: FlaskClient, host: str) -> None:
    """A page whose name was made to lead to this machine can use nothing."""
    assert_problem(client.get(f"/v1/jobs/{new_job_id()}", headers={"Host": host}), 403, "own names")
    for own in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000", "belt.localhost"):
        assert client.get("/v1/jobs/none", headers={"Host": own}).status_code == 404


def test_what_is_open_takes_nothing_from_other_sites(client: FlaskClient, jobs: JobStore) -> None:
    """A form of theirs that a browser sends is rejected; the page's own calls and programs' are not."""
    for headers in ({"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        assert_problem(bulk(client, ["a.jpg"], headers), 403, "another site")
    assert jobs.pending() == 0
    for headers in (OWN_PAGE, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert post_image(client, **headers).status_code == 202


# ---- How many images ---------------------------------------------------------------------------


def _limited(keys: KeyStore, rate: float, burst: int) -> dict[str, str]:
    return bearer(keys.create("limited", [Scope.INGEST], rate=rate, burst=burst)[1])


def _stored(objects: ObjectStore) -> set[str]:
    """Return the ids of the jobs whose images are stored."""
    shards = [Shard.at(key) for page in objects.pages(IMAGES) for key in page]
    return {job_id for shard in shards if shard is not None for job_id in shard.job_ids}


def test_a_limit_counts_images_over_all_processes(
    settings: Settings, client: FlaskClient, keys: KeyStore, jobs: JobStore, objects: ObjectStore
) -> None:
    """A bulk upload of 9 leaves 1 of 10; the next that finds none is rejected wherever it arrives."""
    limited, before = _limited(keys, SLOW, 10), _stored(objects)
    first = bulk(client, ["a.jpg"] * 9, limited)
    assert first.headers["RateLimit-Policy"] == '"images";q=10;w=10000'
    assert first.headers["RateLimit"] == '"images";r=1;t=9000'
    last = post_image(client, **limited)
    assert (last.status_code, last.headers["RateLimit"]) == (202, '"images";r=0;t=10000')
    for process in (client, create_app(settings).test_client()):
        for response in (post_image(process, **limited), bulk(process, ["b.jpg"] * 2, limited)):
            assert_problem(response, 429, "as many images as it may")
            assert 900 <= int(response.headers["Retry-After"]) <= 1000
            assert response.headers["RateLimit"] == f'"images";r=0;t={response.headers["Retry-After"]}'
    assert jobs.pending() == 10
    assert len(_stored(objects) - before) == 10
    _, free = keys.create("free", [Scope.INGEST])
    wait_until(
        lambda: post_image(client, **bearer(free)).status_code == 202, "a key without a limit to work", 5
    )


def test_a_limit_may_be_overdrawn_once(client: FlaskClient, keys: KeyStore) -> None:
    """A call larger than the burst is taken while an image is left, and paid for by a longer wait."""
    limited = _limited(keys, SLOW, 2)
    assert post_image(client, **limited).status_code == 202
    assert bulk(client, ["a.jpg"] * 32, limited).status_code == 202
    wait = int(post_image(client, **limited).headers["Retry-After"])
    assert 31_900 <= wait <= 32_000  # 33 sent, 2 at once, one must be there again: 32 x 1000 s


def test_waiting_as_told_is_enough(client: FlaskClient, keys: KeyStore) -> None:
    """After Retry-After the next image is taken."""
    limited = _limited(keys, 2.0, 1)
    assert post_image(client, **limited).status_code == 202
    response = post_image(client, **limited)
    assert response.status_code == 429
    time.sleep(int(response.headers["Retry-After"]))
    assert post_image(client, **limited).status_code == 202


def test_a_repeated_upload_is_counted_once(client: FlaskClient, keys: KeyStore) -> None:
    """The same idempotency key takes nothing from the limit again."""
    limited = _limited(keys, SLOW, 2)
    for _ in range(4):
        assert post_image(client, **limited, Idempotency_Key="k").status_code == 202
    assert post_image(client, **limited).headers["RateLimit"].startswith('"images";r=0;')


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


def test_the_settings_limit_is_each_keys_own(settings: Settings, keys: KeyStore) -> None:
    """WASTESTREAM_KEY_RATE and _BURST hold where a key has none; a key's 0 is no limit."""
    digest = hashlib.sha256(b"from-the-settings").hexdigest()
    limits = {"key_rate": SLOW, "key_burst": 1, "admin_key_sha256": digest}
    client = create_app(settings.model_copy(update=limits)).test_client()
    tokens = [keys.create(name, [Scope.INGEST])[1] for name in ("one", "two")]
    tokens += ["from-the-settings", keys.create("free", [Scope.INGEST], rate=0.0)[1]]
    statuses = [[post_image(client, **bearer(token)).status_code for _ in range(2)] for token in tokens]
    assert statuses == [[202, 429], [202, 429], [202, 429], [202, 202]]


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
    ids = [item["job"]["id"] for item in bulk(client, ["a.jpg", "b.jpg", "c.jpg"], own).get_json()["items"]]
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


# ---- The page's session ------------------------------------------------------------------------


def sign_in(client: FlaskClient, token: str, **options: Any) -> TestResponse:
    """Sign in as the page does."""
    return client.post("/session", json={"key": token}, headers=OWN_PAGE, **options)


def test_signing_in_keeps_the_key_from_scripts_and_other_sites(client: FlaskClient, keys: KeyStore) -> None:
    """The cookie is HttpOnly and SameSite=Strict, lasts 30 days at most, and works as the key does."""
    _, token = keys.create("page", [Scope.READ, Scope.INGEST])
    response = sign_in(client, f" {token}\n")
    key = {"name": "page", "scopes": ["ingest", "read"]}
    assert response.get_json() == {"required": True, "key": key, "cameras": None}
    attributes = set(response.headers["Set-Cookie"].split("; "))
    assert attributes >= {f"{COOKIE}={token}", "HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=2592000"}
    assert "Secure" not in attributes
    assert response.headers["Cache-Control"] == "no-store"
    assert client.get("/session").get_json()["key"]["name"] == "page"
    assert post_image(client, **OWN_PAGE).status_code == 202


@pytest.mark.parametrize("told_by", ["the connection", "the browser"])
def test_over_https_the_cookie_is_secure(client: FlaskClient, keys: KeyStore, told_by: str) -> None:
    """Also when a proxy ends the encryption and only the browser knows."""
    _, token = keys.create("page", [Scope.READ], expires_ms=time.time_ns() // 1_000_000 + 60_000)
    if told_by == "the connection":
        response = client.post("/session", json={"key": token}, base_url="https://localhost")
    else:
        response = client.post("/session", json={"key": token}, headers={"Origin": "https://localhost"})
    cookie = response.headers["Set-Cookie"]
    assert "Secure" in cookie
    assert 50 <= int(re.findall(r"Max-Age=(\d+)", cookie)[0]) <= 60  # no longer than the key


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://localhost:81"},
        {"Origin": "null"},
        {"Origin": "http://["},
        {"Origin": "ftp://localhost"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-site"},
        {},
    ],
)
def test_another_sites_page_cannot_use_the_cookie(
    client: FlaskClient, keys: KeyStore, jobs: JobStore, headers: dict[str, str]
) -> None:
    """With any request that it makes the browser send; nor can it sign in or out. A key in a header works."""
    _, token = keys.create("page", [Scope.ADMIN])
    sign_in(client, token)
    assert_problem(post_image(client, **headers), 403, "another site")
    if headers:
        assert_problem(client.post("/session", json={"key": token}, headers=headers), 403, "another site")
        assert_problem(client.delete("/session", headers=headers), 403, "another site")
    assert jobs.pending() == 0
    assert post_image(client, **headers, **bearer(token)).status_code == 202


def test_signing_out_takes_the_cookie_back(client: FlaskClient, keys: KeyStore) -> None:
    """The browser has no key any more."""
    sign_in(client, keys.create("page", [Scope.READ])[1])
    signed_out = client.delete("/session", headers=OWN_PAGE).get_json()
    assert signed_out == {"required": True, "key": None, "cameras": None}
    assert client.get_cookie(COOKIE) is None
    assert client.get("/v1/jobs/none").status_code == 401


def test_a_revoked_keys_cookie_is_worthless(client: FlaskClient, keys: KeyStore) -> None:
    """The session says so, and calls are rejected."""
    sign_in(client, keys.create("page", [Scope.READ])[1])
    keys.revoke("page")
    wait_until(lambda: client.get("/session").get_json()["key"] is None, "the session to end", 10)
    assert_problem(client.get("/v1/jobs/none"), 401, "revoked")


def test_a_right_key_signs_in_whatever_others_tried(client: FlaskClient, keys: KeyStore) -> None:
    """Wrong keys from the same address, such as a proxy's, keep nobody out."""
    _, token = keys.create("page", [Scope.READ])
    for _ in range(30):
        assert_problem(sign_in(client, "ws_wrong"), 401, "unknown, revoked or expired")
    assert sign_in(client, token).status_code == 200


@pytest.mark.parametrize("body", ['{"key": "\\ud800"}', '{"key": "ws_\\udcff_\\ud800"}'])
def test_a_key_of_broken_characters_is_rejected(settings: Settings, body: str) -> None:
    """Also to the key from the settings, which is compared with everything that comes."""
    hashed = settings.model_copy(update={"admin_key_sha256": "0" * 64})
    client = create_app(hashed).test_client()
    response = client.post("/session", data=body, content_type="application/json", headers=OWN_PAGE)
    assert_problem(response, 400, "half of a surrogate pair")


@pytest.mark.parametrize("body", [0, [], {}, {"key": 1}, {"key": " "}, {"key": "x" * 300}])
def test_what_is_no_sign_in_is_rejected(client: FlaskClient, body: Any) -> None:
    """400 or 413, with the form of a sign-in."""
    assert_problem(client.post("/session", json=body, headers=OWN_PAGE), 400, '{"key": "ws_..."}')
    assert_problem(client.post("/session", json={"key": 5000 * "x"}, headers=OWN_PAGE), 413, "exceeds")


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
    response = bulk(client, [name], {"X-Camera-Id": "belt-1"})
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
