"""Redis by Sentinel: a fail-over under load, replicas that confirm uploads, and settings that are wrong."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator

import pytest
from kombu.utils.json import dumps

from api.app import create_app
from core.errors import RedisUnavailableError
from core.messages import make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.server import acl_rules
from core.settings import Settings, load_settings
from tests.support.calls import post_image
from tests.support.images import jpeg
from tests.support.sentinel import MASTER, PASSWORD, SENTINEL_PASSWORD, USER, Watched, watched_redis
from tests.support.servers import Server, free_port, run_module, wait_until
from tests.support.stream import assert_balanced, finish, states, upload, uploading
from worker.transport.channel import TRANSPORT

pytestmark = pytest.mark.usefixtures("fresh_readiness")

_ANSWERED_WITHIN = 15  # seconds after the master's death


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Three Redis servers and a Sentinel, with a user who has the fewest rights."""
    with watched_redis(tmp_path_factory.mktemp("watched") / "redis", acl_rules()) as running:
        yield running


@pytest.fixture
def replicated(settings: Settings, watched: Watched, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for these servers, emptied; a replica confirms each upload."""
    with watched.admin(watched.master()) as admin:
        admin.flushall()
    for name, value in watched.variables.items():
        monkeypatch.setenv(name, value)
    load_settings.cache_clear()
    fields = ("redis_url", "redis_sentinels", "redis_sentinel_password")
    values = {name: getattr(Settings(), name) for name in fields}
    return settings.model_copy(update={**values, "redis_replicas": 1})


def test_a_failover_under_load_loses_nothing(
    replicated: Settings, watched: Watched, start_worker: Callable[..., Server]
) -> None:
    """The master is killed, comes back as a replica, and becomes master again: each image settles once."""
    jobs = JobStore(connect(replicated.redis))
    client = create_app(replicated).test_client()
    worker = start_worker(ready=False, **watched.variables)
    wait_until(lambda: jobs.client.zcard("ws:workers") == 1, f"the worker; its log: {worker.log}")
    first = watched.master()
    with uploading(client) as ids:
        wait_until(lambda: states(jobs, ids)["classified"] > 20, "jobs to settle")
        first.kill()
        accepted = len(ids)
        wait_until(lambda: len(ids) > accepted + 8, "images to be accepted again", _ANSWERED_WITHIN)
        first.start()
        wait_until(watched.replicates, "the old master to follow the new one")
        # Nobody dies in this one: connections stay open to a server that becomes a replica.
        second = watched.master()
        with watched.ask() as sentinel:
            sentinel.execute_command("SENTINEL", "FAILOVER", MASTER, "COORDINATED")
        wait_until(lambda: watched.master() is not second, "the second fail-over", 20)
        accepted = len(ids)
        wait_until(lambda: len(ids) > accepted + 8, "images to be accepted again", _ANSWERED_WITHIN)
    with watched.admin(watched.master()) as admin:  # who may look at everything
        finish(JobStore(admin), ids)
    began = time.monotonic()
    answer = client.post("/v1/images?wait=20", data=jpeg(7), headers={"Content-Type": "image/jpeg"})
    assert answer.get_json()["state"] == "classified"  # told by the new master's subscription
    assert time.monotonic() - began < 15
    log = worker.log.read_text()
    assert PASSWORD not in log
    assert SENTINEL_PASSWORD not in log


def test_nothing_is_accepted_that_replicas_do_not_confirm(
    replicated: Settings, watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503, and nothing more is taken until they are back; the same key then gives the one job it made."""
    monkeypatch.setattr("core.redis.replication.CONFIRM_MS", 300)
    wait_until(watched.replicates, "the replicas")
    jobs = JobStore(connect(replicated.redis))
    client = create_app(replicated).test_client()
    upload(client)
    before = jobs.pending()
    stopped = watched.replicas()
    try:
        for replica in stopped:
            assert replica.process is not None
            replica.process.send_signal(signal.SIGSTOP)
        assert post_image(client, Idempotency_Key="once").status_code == 503
        assert jobs.pending() == before + 1  # by the master, which no replica has confirmed
        assert post_image(client, Idempotency_Key="once").status_code == 503
        assert post_image(client, jpeg(8)).status_code == 503
        assert jobs.pending() == before + 1
        answer = client.get("/readyz")
        assert answer.status_code == 503
        assert "0 of 1 replicas of Redis (WASTESTREAM_REDIS_REPLICAS)" in answer.get_json()["checks"]["redis"]
    finally:
        for replica in stopped:
            assert replica.process is not None
            replica.process.send_signal(signal.SIGCONT)
    wait_until(lambda: post_image(client, Idempotency_Key="once").status_code == 202, "the replicas", 20)
    assert jobs.pending() == before + 1
    assert client.get("/readyz").status_code == 200
    assert_balanced(jobs)


def test_a_master_that_hangs_is_left(replicated: Settings, watched: Watched) -> None:
    """Its connections stay open and say nothing."""
    wait_until(watched.replicates, "the replicas")
    jobs = JobStore(connect(replicated.redis, timeout=1.0))
    jobs.ping()
    hanging = watched.master()
    assert hanging.process is not None
    hanging.process.send_signal(signal.SIGSTOP)
    try:
        wait_until(lambda: _answers(jobs), "another master", 20)
    finally:
        hanging.process.send_signal(signal.SIGCONT)
    wait_until(watched.replicates, "the old master to follow the new one")


def _answers(jobs: JobStore) -> bool:
    try:
        jobs.ping()
    except RedisUnavailableError:
        return False
    return True


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"SENTINEL_PASSWORD": "no"}, "A Sentinel rejects WASTESTREAM_REDIS_SENTINEL_PASSWORD"),
        ({"SENTINELS": "127.0.0.1:{free}"}, "no Sentinel in WASTESTREAM_REDIS_SENTINELS answers"),
        (
            {"URL": f"redis://{USER}:{PASSWORD}@other/0"},
            "no Sentinel in WASTESTREAM_REDIS_SENTINELS knows a living master 'other', the host in WASTE",
        ),
        ({"URL": f"redis://{USER}:no@{MASTER}/0"}, "the user or the password in WASTESTREAM_REDIS_URL"),
        (
            {"URL": f"redis://nobody:{PASSWORD}@{MASTER}/0"},
            "the user or the password in WASTESTREAM_REDIS_URL",
        ),
    ],
)
def test_a_wrong_setting_is_named(
    watched: Watched, wrong: dict[str, str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence without a password."""
    for name, value in _with(watched, wrong).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RedisUnavailableError) as caught:
        JobStore(connect(Settings().redis)).ping()
    assert words in str(caught.value)
    assert PASSWORD not in str(caught.value)
    assert SENTINEL_PASSWORD not in str(caught.value)


@pytest.mark.parametrize("program", [["api.keys", "list"], ["worker", "--name", "rejected"]])
def test_programs_end_with_the_sentence(watched: Watched, program: list[str]) -> None:
    """A worker too: Celery would try again for ever."""
    variables = _with(watched, {"SENTINEL_PASSWORD": "no"})
    done = run_module(*program, environment=variables)
    assert done.returncode == 1
    assert "A Sentinel rejects WASTESTREAM_REDIS_SENTINEL_PASSWORD" in done.stderr
    assert "Traceback" not in done.stderr


def _with(watched: Watched, changed: dict[str, str]) -> dict[str, str]:
    """Return the settings with some of Redis' changed."""
    values = {f"WASTESTREAM_REDIS_{name}": value for name, value in changed.items()}
    return {
        name: value.replace("{free}", str(free_port()))
        for name, value in {**watched.variables, **values}.items()
    }


def test_celerys_remote_control_shows_no_password_of_sentinel(replicated: Settings) -> None:
    """What a worker tells of its broker is the address."""
    app = make_app(replicated)
    app.conf.broker_transport = TRANSPORT
    with app.connection_for_read() as connection:
        assert connection.channel().client.ping()
        shown = dumps(connection.info()["transport_options"])  # type: ignore[no-untyped-call]
    assert "the master belts of the Sentinels 127.0.0.1:" in shown
    assert SENTINEL_PASSWORD not in shown
    assert PASSWORD not in shown
