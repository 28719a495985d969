"""Redis and S3 behind TLS, with a certificate of an authority of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from api.app import create_app
from core.bucket import ensure_bucket
from core.errors import RedisUnavailableError, StorageUnavailableError
from core.messages import make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from infra.local import redis_probes
from tests.conftest import environment_of
from tests.support.images import jpeg
from tests.support.servers import Server, run_module
from tests.support.stream import finish, upload, upload_bulk
from tests.support.tls import TlsProxy, tls_proxy
from worker.transport.channel import TRANSPORT

_PASSWORD = "s3cret-of-tls"  # noqa: S105 - of a user that the test makes


@dataclass(frozen=True)
class Authority:
    """Certificate authority: its own certificate as a file, and one for the name `localhost`."""

    file: Path
    certificate: trustme.LeafCert


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that no system knows."""
    ca, file = trustme.CA(), tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(file))
    return Authority(file, ca.issue_cert("localhost"))


@pytest.fixture
def proxy(jobs: JobStore, redis_server: Server, authority: Authority) -> Iterator[TlsProxy]:
    """TLS in front of Redis, which has a user with a password."""
    jobs.client.acl_setuser(
        "managed", enabled=True, passwords=[f"+{_PASSWORD}"], keys=["*"], channels=["*"], categories=["+@all"]
    )
    assert redis_server.port is not None
    with tls_proxy(redis_server.port, authority.certificate) as running:
        yield running
    jobs.client.acl_deluser("managed")


def _url(proxy: TlsProxy, options: str = "", host: str = "localhost") -> SecretStr:
    return SecretStr(f"rediss://managed:{_PASSWORD}@{host}:{proxy.port}/0{options}")


def _celery(settings: Settings) -> Any:
    """Return the Celery app as the workers have it."""
    app = make_app(settings)
    app.conf.broker_transport = TRANSPORT
    return app


def test_every_program_speaks_tls_with_redis(
    settings: Settings,
    jobs: JobStore,
    proxy: TlsProxy,
    authority: Authority,
    start_worker: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the URL that managed services give and the system's authorities; nothing crosses in clear text."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))  # the system's, for this test
    url = _url(proxy)
    secured = settings.model_copy(update={"redis_url": url})
    client = create_app(secured).test_client()
    start_worker(WASTESTREAM_REDIS_URL=url.get_secret_value())
    finish(jobs, [upload(client), *upload_bulk(client, 20)])
    assert client.get("/readyz").status_code == 200
    assert redis_probes.redis_answers(url.get_secret_value())
    assert redis_probes.WorkerProbe(url.get_secret_value(), "worker").seen()
    assert [list(answer.values()) for answer in _celery(secured).control.ping(timeout=5, limit=1)] == [
        [{"ok": "pong"}]
    ]
    for program in (
        ["worker.health"],
        ["worker.periodic.retention"],
        ["infra.cli", "keys", "list"],
    ):
        done = run_module(*program, environment=environment_of(secured))
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    assert proxy.beginnings
    assert proxy.in_clear == []


@pytest.mark.parametrize(
    ("host", "options", "reason"),
    [
        ("localhost", "", "certificate verify failed"),  # an authority that is not the system's
        ("127.0.0.1", "?ssl_ca_certs={ca}", "certificate is not valid for '127.0.0.1'"),
        ("127.0.0.1", "?ssl_ca_certs={ca}&ssl_check_hostname=false", ""),
        ("localhost", "?ssl_cert_reqs=none", ""),
    ],
)
def test_the_certificate_is_verified(
    settings: Settings, proxy: TlsProxy, authority: Authority, host: str, options: str, reason: str
) -> None:
    """By redis-py and by Celery alike, unless the URL says otherwise."""
    url = _url(proxy, options.format(ca=authority.file), host)
    client = connect(url.get_secret_value())
    with _celery(settings.model_copy(update={"redis_url": url})).connection_for_read() as connection:
        if reason:
            with pytest.raises(RedisUnavailableError, match=reason):
                JobStore(client).ping()
            with pytest.raises(connection.connection_errors, match=reason):
                connection.channel()
        else:
            JobStore(client).ping()
            assert connection.channel().client.ping()
    client.close()
    assert proxy.in_clear == []


@pytest.mark.parametrize("program", ["worker", "infra.cli keys list"])
def test_a_url_that_cannot_be_used_is_rejected_in_a_sentence(program: str) -> None:
    """No traceback, and nothing of the password."""
    environment = {"WASTESTREAM_REDIS_URL": "redis://:hunter2/#@127.0.0.1:6379/0"}
    done = run_module(*program.split(), environment=environment)
    assert done.returncode == 1
    assert "WASTESTREAM_REDIS_URL" in done.stderr
    assert "percent-encode" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr


def test_both_clients_of_storage_trust_an_authority_of_its_own(
    settings: Settings, s3_server: Server, authority: Authority
) -> None:
    """`WASTESTREAM_S3_CA_FILE` is enough; without it the sentence names it."""
    assert s3_server.port is not None
    with tls_proxy(s3_server.port, authority.certificate) as proxy:
        unknown = settings.model_copy(
            update={"s3_endpoint": f"https://localhost:{proxy.port}", "s3_bucket": "of-its-own"}
        )
        for call in (ensure_bucket, lambda settings: ObjectStore(settings).check()):
            with pytest.raises(StorageUnavailableError, match="WASTESTREAM_S3_CA_FILE"):
                call(unknown)
        known = unknown.model_copy(update={"s3_ca_file": authority.file})
        environment = {
            **environment_of(known),
            "WASTESTREAM_S3_BUCKET": known.s3_bucket,
            "WASTESTREAM_S3_CA_FILE": str(authority.file),
        }
        done = run_module("core.bucket", environment=environment)
        assert (done.returncode, done.stderr) == (0, "")
        ObjectStore(known).put_many([("images/belt/a.jpeg", jpeg())])
        assert ObjectStore(known).get("images/belt/a.jpeg") == jpeg()
        assert proxy.in_clear == []
