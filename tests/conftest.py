"""Fixtures: a real Redis, a real S3 server, real workers, and the whole stack as `up` starts it."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api import readiness
from api.app import create_app
from core.bucket import ensure_bucket
from core.errors import RedisUnavailableError
from core.redis.api_keys import KeyStore
from core.redis.client import connect
from core.redis.installation import OBJECT
from core.redis.job_store import JobStore
from core.redis.workers import WorkerRegistry
from core.settings import Settings
from core.storage import ObjectStore
from infra.lab.stack import Stack
from infra.local.programs import REDIS
from tests.support.servers import REPOSITORY, RedisServer, Server, free_port, program, wait_until

hypothesis.settings.register_profile("loaded machine", deadline=None)
hypothesis.settings.load_profile("loaded machine")

_ACCESS, _SECRET = "test-access-key", "test-secret-key-of-some-length"


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_works() -> None:
    """Undo a shell's SIG_IGN for Ctrl-C, which background programs and their children inherit."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _programs_find_the_packages() -> None:
    """As `./wastestream` lets them, in a run of pytest alone too."""
    os.environ["PYTHONPATH"] = f"{REPOSITORY}:{REPOSITORY / 'client'}"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings of the person who runs the tests must not reach them."""
    for name in [name for name in os.environ if name.startswith("WASTESTREAM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Redis that writes an append-only file, as in production."""
    folder = tmp_path_factory.mktemp("redis")
    port = free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    options += ["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]
    server = RedisServer([program(*REDIS), *options], folder / "log", port=port)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An S3 server on a folder."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "objects").mkdir()
    port = free_port()
    command = [program("rclone"), "serve", "s3", str(folder / "objects"), "--addr", f"127.0.0.1:{port}"]
    keys = {"RCLONE_AUTH_KEY": f'"{_ACCESS},{_SECRET}"', "RCLONE_CONFIG": str(folder / "none.conf")}
    server = Server(command, folder / "log", environment=keys, port=port)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def settings(redis_server: Server, s3_server: Server) -> Settings:
    """Settings for the two servers, Redis emptied and the bucket made."""
    return fresh_settings(redis_server, s3_server)


def fresh_settings(redis_server: Server, s3_server: Server) -> Settings:
    """Return settings for the two servers, Redis emptied and the bucket made."""
    settings = Settings(
        redis_url=SecretStr(f"redis://127.0.0.1:{redis_server.port}/0"),
        s3_endpoint=f"http://127.0.0.1:{s3_server.port}",
        s3_access_key=SecretStr(_ACCESS),
        s3_secret_key=SecretStr(_SECRET),
    )
    connect(settings.redis_url.get_secret_value()).flushall()
    ensure_bucket(settings)
    ObjectStore(settings).delete_many(
        [OBJECT]
    )  # A new installation, though there are images of earlier ones.
    return settings


@pytest.fixture
def jobs(settings: Settings) -> JobStore:
    """The job store on the real Redis."""
    return JobStore(connect(settings.redis_url.get_secret_value()))


@pytest.fixture
def keys(settings: Settings) -> KeyStore:
    """The API keys on the real Redis."""
    return KeyStore(connect(settings.redis_url.get_secret_value()))


@pytest.fixture
def objects(settings: Settings) -> ObjectStore:
    """The object store on the real S3 server."""
    return ObjectStore(settings)


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    """The API's application, called in this process, on the real servers."""
    return create_app(settings).test_client()


@pytest.fixture
def fresh_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readiness does not wait a second before it checks again."""
    monkeypatch.setattr(readiness, "MAX_AGE", 0.0)


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that give another process the same settings."""
    return {
        "WASTESTREAM_REDIS_URL": settings.redis_url.get_secret_value(),
        "WASTESTREAM_S3_ENDPOINT": settings.s3_endpoint,
        "WASTESTREAM_S3_ACCESS_KEY": settings.s3_access_key.get_secret_value(),
        "WASTESTREAM_S3_SECRET_KEY": settings.s3_secret_key.get_secret_value(),
        "WASTESTREAM_MAX_BATCH": str(settings.max_batch),
        "WASTESTREAM_BATCH_TIMEOUT": str(settings.batch_timeout),
        "WASTESTREAM_CHILD_MEMORY": str(settings.child_memory),
        "WASTESTREAM_MODEL_DIR": str(settings.model_dir),
    }


@pytest.fixture
def start_worker(settings: Settings, jobs: JobStore, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a real worker process and returns when it is ready, if it is to become it."""
    started: list[Server] = []

    def known(name: str) -> bool:
        try:
            return any(worker.startswith(f"{name}@") for worker in WorkerRegistry(jobs.client).names())
        except RedisUnavailableError:
            return False  # Redis may just have been started, and load its file.

    def start(
        name: str = "worker",
        module: str = "worker",
        *,
        events: bool = False,
        ready: bool = True,
        **environment: str,
    ) -> Server:
        options = ["--name", name, *(["--events"] if events else [])]
        server = Server(
            [sys.executable, "-m", module, *options],
            tmp_path / f"{name}.log",
            environment={**environment_of(settings), **environment},
        )
        started.append(server)
        server.start()
        if ready:
            wait_until(lambda: known(name), f"{name} to be ready; its log: {server.log}")
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def start_api(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a real API, always on the same port."""
    port = free_port()
    started: list[Server] = []

    def start(module: str = "api", **environment: str) -> Server:
        variables = {**environment_of(settings), "WASTESTREAM_PORT": str(port), **environment}
        server = Server([sys.executable, "-m", module], tmp_path / "api.log", variables, port)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole system, started and stopped as a user does."""
    with Stack(tmp_path_factory.mktemp("stack") / "data") as running:
        yield running


@pytest.fixture(scope="session")
def locked_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack of its own that needs an API key, takes direct uploads, and sends webhooks to loopback."""
    locked = Stack(tmp_path_factory.mktemp("locked") / "data")
    locked.environment["WASTESTREAM_S3_PUBLIC_ENDPOINT"] = f"http://127.0.0.1:{locked.port + 2}"
    locked.environment["WASTESTREAM_WEBHOOK_NETWORKS"] = "127.0.0.0/8"
    with locked as running:
        running.make_key("first", "admin")
        yield running
