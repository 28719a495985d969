"""Ways to Redis besides TCP and a password: a socket file, and TLS with a client's certificate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from api.app import create_app
from core.errors import RedisUnavailableError
from core.jobs import JobState, Outcome
from core.messages import make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.server import acl_rules
from core.settings import Settings
from infra.local.programs import REDIS
from tests.conftest import environment_of
from tests.support.servers import REPOSITORY, Server, free_port, program, run_module
from tests.support.stream import finish, upload, upload_bulk
from tests.support.tls import TlsProxy, tls_proxy
from worker.transport.channel import TRANSPORT

_USER = "stream:s3cret"


@dataclass(frozen=True)
class Files:
    """Certificates as files: the authority's, and a client's with its key."""

    authority: Path
    client: Path
    key: Path


@pytest.fixture(scope="module")
def own_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """A Redis with a socket file and a user with the fewest rights, and that file."""
    folder = tmp_path_factory.mktemp("redis")
    (folder / "users.acl").write_text(
        f"user default off\nuser stream on >s3cret {acl_rules(3)} &/4.celery.pidbox\n"
    )
    port, file = free_port(), folder / "redis.sock"
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    options += ["--unixsocket", str(file), "--unixsocketperm", "700", "--aclfile", str(folder / "users.acl")]
    server = Server([program(*REDIS), *options], folder / "log", port=port)
    server.start()
    yield server, file
    server.stop()


@pytest.fixture(scope="module")
def certificates(
    own_redis: tuple[Server, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[TlsProxy, Files]]:
    """TLS before that Redis, for clients with a certificate of the same authority."""
    ca, folder = trustme.CA(), tmp_path_factory.mktemp("certificates")
    client = ca.issue_cert("stream")
    files = Files(folder / "ca.pem", folder / "client.pem", folder / "client.key")
    ca.cert_pem.write_to_path(str(files.authority))
    client.cert_chain_pems[0].write_to_path(str(files.client))
    client.private_key_pem.write_to_path(str(files.key))
    assert own_redis[0].port is not None
    with tls_proxy(own_redis[0].port, ca.issue_cert("localhost"), ca) as proxy:
        yield proxy, files


def _all_works(settings: Settings, url: str, start_worker: Callable[..., Server]) -> None:
    """Check that API, worker, its health check and Celery's remote control do their work by this URL.

    Each URL has a database of its own: a Redis with data of another installation would close the API.
    """
    changed = settings.model_copy(update={"redis_url": SecretStr(url)})
    jobs = JobStore(connect(changed.redis))
    client = create_app(changed).test_client()
    worker = start_worker(ready=False, WASTESTREAM_REDIS_URL=url)
    ids = [upload(client), *upload_bulk(client, 10)]
    finish(jobs, ids)
    assert client.get("/readyz").status_code == 200
    app = make_app(changed)
    app.conf.broker_transport = TRANSPORT
    assert app.control.ping(timeout=5, limit=1)
    done = run_module("worker.health", environment=environment_of(changed))
    assert (done.returncode, done.stderr) == (0, "")
    assert "s3cret" not in worker.log.read_text()
    worker.stop()


@pytest.fixture(autouse=True)
def _hlen(monkeypatch: pytest.MonkeyPatch) -> None:
    """`finish` asks for the length of a hash, by a command that the programs do not need."""
    monkeypatch.setattr("redis.Redis.hlen", lambda self, name: len(self.hgetall(name)))


def test_everything_works_by_a_socket_file(
    settings: Settings, own_redis: tuple[Server, Path], start_worker: Callable[..., Server]
) -> None:
    """With a user of the fewest rights, in another database than the first."""
    _all_works(settings, f"unix://{_USER}@{own_redis[1]}?db=3", start_worker)


def test_everything_works_with_a_certificate_of_the_client(
    settings: Settings, certificates: tuple[TlsProxy, Files], start_worker: Callable[..., Server]
) -> None:
    """By TLS both ways, with nothing in clear text."""
    proxy, files = certificates
    options = f"ssl_ca_certs={files.authority}{_shown(files)}"
    _all_works(settings, f"rediss://{_USER}@localhost:{proxy.port}/4?{options}", start_worker)
    assert proxy.in_clear == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (
            "rediss://{user}@localhost:{tls}/3?ssl_ca_certs={ca}",
            "a certificate of the client: name it in WASTESTREAM_REDIS_URL, as ?ssl_certfile",
        ),
        (
            "rediss://{user}@localhost:{tls}/3",
            "Redis' certificate is not trusted: name its authority in WASTESTREAM_REDIS_URL, as ?ssl_ca",
        ),
        (
            "rediss://{user}@127.0.0.1:{tls}/3?ssl_ca_certs={ca}",
            "Redis' certificate is for another host: write the host that it names into WASTE",
        ),
        ("rediss://{user}@localhost:{plain}/3", "begins with rediss://, check that this port speaks TLS"),
        (
            "redis://stream:wrong@127.0.0.1:{plain}/3",
            "rejects the user or the password in WASTESTREAM_REDIS_URL",
        ),
        (
            "redis://nobody:s3cret@127.0.0.1:{plain}/3",
            "rejects the user or the password in WASTESTREAM_REDIS_URL",
        ),
        ("redis://127.0.0.1:{plain}/3", "rejects the user or the password in WASTESTREAM_REDIS_URL"),
        ("unix://{user}@/nowhere/redis.sock", "socket file is missing or closed to this user"),
    ],
)
def test_what_is_wrong_is_named(
    own_redis: tuple[Server, Path], certificates: tuple[TlsProxy, Files], url: str, words: str
) -> None:
    """A setting and what to do, and no password."""
    proxy, files = certificates
    plain = own_redis[0].port
    address = url.format(user=_USER, tls=proxy.port, plain=plain, ca=files.authority)
    with pytest.raises(RedisUnavailableError) as caught:
        JobStore(connect(address, timeout=1.0)).ping()
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_becomes_a_replica_is_left_for_the_new_master(
    certificates: tuple[TlsProxy, Files], own_redis: tuple[Server, Path], tmp_path: Path
) -> None:
    """By the name that a managed service moves: the connection stays open, and only writes would fail."""
    servers = []
    for name in ("old", "new"):
        port, folder = free_port(), tmp_path / name
        folder.mkdir()
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        servers.append(Server([own_redis[0].command[0], *options], folder / "log", port=port))
        servers[-1].start()
    ports = [server.port or 0 for server in servers]
    proxy, files = certificates
    others, proxy._target = proxy._target, ports[0]
    client = connect(f"rediss://localhost:{proxy.port}/0?ssl_ca_certs={files.authority}{_shown(files)}")
    try:
        jobs = JobStore(client)
        jobs.ping()
        with connect(f"redis://127.0.0.1:{ports[0]}/0") as old:
            old.replicaof("127.0.0.1", str(ports[1]))
        proxy._target = ports[1]
        assert client.get("a key") is None  # by the connection to the old one
        assert jobs.settle([Outcome("01ARZ3NDEKTSV4RRFFQ69G5FAV", JobState.FAILED)], "model") == [None]
        client.set("written", "by the same client")
        with connect(f"redis://127.0.0.1:{ports[1]}/0") as new:
            assert new.get("written") == "by the same client"
    finally:
        client.close()
        proxy._target = others
        for server in servers:
            server.stop()


def _shown(files: Files) -> str:
    """Return the options with the client's certificate."""
    return f"&ssl_certfile={files.client}&ssl_keyfile={files.key}"


def test_only_one_place_connects() -> None:
    """Another one would know nothing of Sentinels and socket files."""
    programs = [
        path
        for folder in ("core", "api", "worker", "infra")
        for path in (REPOSITORY / folder).rglob("*.py")
        if path != REPOSITORY / "core" / "redis" / "client.py"
    ]
    words = ("from_url(", "redis.Redis(", "connect(settings.redis_url", "ConnectionPool(")
    assert sorted(
        str(path.relative_to(REPOSITORY))
        for path in programs
        if any(word in path.read_text(encoding="utf-8") for word in words)
    ) == [
        "api/backup/target.py",
        "worker/sinks/webhook_client.py",
    ]  # a bucket, and a pool of HTTP connections
