"""core.redis.server and its users: a Redis that would lose jobs, or keep the workers out, is named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import create_app
from core.errors import MissingRightsError
from core.ids import new_job_id
from core.jobs import Job
from core.messages import QUEUES, make_app
from core.redis import keys
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.pauses import Pauses
from core.redis.server import acl_rules, check_server
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.servers import REPOSITORY, Server, free_port, wait_until
from tests.support.stream import finish, upload, upload_bulk, wait_settled
from worker.periodic.retention import sweep
from worker.transport.channel import TRANSPORT

_LUA = REPOSITORY / "core" / "redis" / "lua"

AllowUser = Callable[..., str]


pytestmark = pytest.mark.usefixtures("fresh_readiness")


@pytest.fixture
def allow(settings: Settings, jobs: JobStore) -> Iterator[AllowUser]:
    """A function that gives Redis' user `limited` just these rights and returns its URL."""

    def rules(*words: str) -> str:
        jobs.client.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "limited", "reset", "on", ">pass", *words
        )
        return settings.redis_url.get_secret_value().replace("//", "//limited:pass@")

    yield rules
    jobs.client.acl_deluser("limited")


@pytest.fixture
def policy(jobs: JobStore) -> Iterator[Callable[[str], None]]:
    """A function that sets Redis' `maxmemory-policy`; afterwards it is as before."""

    def change(value: str) -> None:
        jobs.client.config_set("maxmemory-policy", value)

    yield change
    change("noeviction")


def _look_now(client: FlaskClient) -> None:
    """Let the minute pass after which the API looks at Redis again."""
    client.application.extensions["wastestream"].ingest._server._next = 0.0


def _status(client: FlaskClient) -> int:
    return post_image(client).status_code


def test_a_redis_that_drops_keys_gets_no_jobs(
    jobs: JobStore,
    client: FlaskClient,
    policy: Callable[[str], None],
    start_worker: Callable[..., Server],
) -> None:
    """Uploads are rejected and the reason told, workers go on; so does all else when it is set right."""
    accepted = [upload(client)]
    policy("volatile-lru")
    _look_now(client)
    assert _status(client) == 503
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert (
        "its maxmemory-policy is volatile-lru. Set it to noeviction" in answer.get_json()["checks"]["redis"]
    )
    worker = start_worker()
    assert wait_settled(jobs, accepted) == {"classified": 1}
    assert "its maxmemory-policy is volatile-lru" in worker.log.read_text()
    policy("noeviction")
    wait_until(lambda: _status(client) == 202, "uploads to be taken again", 10)
    assert client.get("/readyz").status_code == 200


def test_the_user_with_the_fewest_rights_can_do_everything(
    settings: Settings, jobs: JobStore, allow: AllowUser, start_worker: Callable[..., Server]
) -> None:
    """API, worker, keys, sweep and Celery's remote control; without CONFIG, as of a managed Redis.

    Of our keys it may use those in the table of `core.redis.keys` only.
    """
    jobs.client.acl_log_reset()
    table = re.findall(r"`(ws:[^`]+)`", keys.__doc__ or "")
    ours = [f"~{re.sub(r'{.*}', '*', name)}" for name in table] + ["~ws:.rights"]
    url = allow(*[rule for rule in acl_rules().split() if rule != "~ws:*"], *ours)
    limited = settings.model_copy(update={"redis_url": SecretStr(url)})
    check_server(connect(url))
    client = create_app(limited).test_client()
    start_worker(WASTESTREAM_REDIS_URL=url)
    ids = [upload(client), *upload_bulk(client, 20)]
    headers = {"Content-Type": "image/jpeg", "Idempotency-Key": "once"}
    answers = [client.post("/v1/images?wait=10", data=jpeg(7), headers=headers) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    finish(jobs, [*ids, answers[0].get_json()["id"]])
    celery = make_app(limited)
    celery.conf.broker_transport = TRANSPORT
    assert celery.control.ping(timeout=5, limit=1)
    jobs.accept([job := Job(new_job_id(), "belt", "jpeg", 1)], "single", QUEUES["single"], ["no message"])
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 200
    for path in ("/readyz", "/metrics", "/v1/ledger", f"/v1/jobs/{ids[0]}", "/livez"):
        assert client.get(path).status_code == 200, path
    sweep(limited)
    key_store = KeyStore(connect(url))
    key_store.create("belt", [Scope.INGEST])
    key_store.revoke("belt")
    denied = {str(entry["object"]).partition("|")[0] for entry in jobs.client.acl_log()}
    assert denied <= {"client"}  # by which redis-py tells its name; it may be denied


def test_what_scripts_call_is_among_the_rights() -> None:
    """Redis asks for them when a script runs, too."""
    calls = {
        name.lower()
        for file in _LUA.glob("*.lua")
        for name in re.findall(r"redis\.p?call\('(\w+)'", file.read_text(encoding="utf-8"))
    }
    assert len(calls) > 20
    assert {f"+{name}" for name in calls} <= set(acl_rules().split())


def test_the_documentation_has_the_rights() -> None:
    """Word by word, to be copied."""
    page = " ".join((REPOSITORY / "docs" / "operations.md").read_text(encoding="utf-8").split())
    assert acl_rules() in page.replace(" \\ ", " ")


@pytest.mark.parametrize(
    ("without", "missing"),
    [
        (["-zadd"], "command ZADD"),
        (["-info"], "command INFO"),
        (["-exec", "-watch"], "command EXEC, command WATCH"),
        (["-multi"], "command MULTI"),
        (["-discard"], "command DISCARD"),
        (["resetchannels"], "channel ws:settled, channel /0.celery.pidbox"),
        (
            ["resetkeys", "~ws:*", "~*.celery.pidbox"],
            "keys wastestream.*, keys unacked*, keys _kombu.binding*",
        ),
        (["resetkeys"], "keys ws:*, keys wastestream.*"),
    ],
)
def test_what_is_missing_is_named(jobs: JobStore, allow: AllowUser, without: list[str], missing: str) -> None:
    """A command, a pattern of keys, a channel; and asking for it changes nothing."""
    client = connect(allow(*acl_rules().split(), *without))
    with pytest.raises(MissingRightsError, match=re.escape(f"may not use: {missing}")):
        check_server(client)
    assert jobs.client.keys() == []
    client.close()


def test_without_transactions_nothing_is_asked(redis_server: Server, tmp_path: Path) -> None:
    """Where MULTI is renamed, the commands that follow it would run."""
    port = free_port()
    options = ["--port", str(port), "--dir", str(tmp_path), "--rename-command", "MULTI", "RENAMED"]
    server = Server([redis_server.command[0], *options], tmp_path / "log", port=port)
    server.start()
    client = connect(f"redis://127.0.0.1:{port}/0")
    try:
        client.rpush(QUEUES["single"], "job")
        with pytest.raises(MissingRightsError, match="command MULTI"):
            check_server(client)
        assert client.keys() == [QUEUES["single"]]
    finally:
        client.close()
        server.stop()


def test_a_worker_without_channels_says_so_and_ends(
    settings: Settings, allow: AllowUser, start_worker: Callable[..., Server]
) -> None:
    """As Redis 7 makes users; the API takes nothing that no worker could do, and names the same."""
    url = allow("allkeys", "allcommands", "resetchannels")
    worker = start_worker("mute", ready=False, WASTESTREAM_REDIS_URL=url)
    assert worker.process is not None
    assert worker.process.wait(timeout=30) == 1
    words = "Redis' user may not use: channel ws:settled, channel /0.celery.pidbox."
    assert worker.log.read_text().startswith(words)
    client = create_app(settings.model_copy(update={"redis_url": SecretStr(url)})).test_client()
    assert _status(client) == 503
    assert client.get("/readyz").get_json()["checks"]["redis"].startswith(words)
    allow("allkeys", "allcommands", "allchannels")
    wait_until(lambda: _status(client) == 202, "uploads to be taken", 10)


def test_jobs_that_wait_without_a_worker_are_a_warning(
    settings: Settings, jobs: JobStore, client: FlaskClient
) -> None:
    """After a minute, to probes and to who may read, unless the lane is paused; the API keeps the jobs."""
    key_store = KeyStore(jobs.client)
    job_id = upload(client)
    assert "warnings" not in client.get("/readyz").get_json()
    minute_ago = jobs.now_ms() - 61_000
    jobs.client.zadd(keys.PENDING["single"], {job_id: minute_ago})
    answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "ready")
    assert "no worker has reported for 60 s" in answer.get_json()["warnings"]["workers"]
    pauses = Pauses(jobs.client)
    pauses.pause("single")
    assert set(client.get("/readyz").get_json()["warnings"]) == {"paused"}
    pauses.resume("single")
    WorkerRegistry(jobs.client).seen("one@host")
    assert "warnings" not in client.get("/readyz").get_json()
    jobs.client.zadd("ws:workers", {"one@host": minute_ago / 1000})
    key_store.create("any", [Scope.READ])
    public = create_app(settings).test_client().get("/readyz").get_json()
    assert public["warnings"] == {"workers": "warning"}
