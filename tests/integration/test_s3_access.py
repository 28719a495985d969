"""Ways to storage besides two keys: credentials of AWS' kinds, names of hosts, folders, an own authority."""

from __future__ import annotations

import ssl
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import trustme
from pydantic import SecretStr

from core import s3
from core.bucket import ensure_bucket
from core.errors import StorageUnavailableError
from core.presigned import PutUrls
from core.settings import Settings
from core.storage import ObjectStore
from tests.conftest import environment_of
from tests.support.aws import IDENTITY, Aws, aws_services
from tests.support.images import jpeg
from tests.support.servers import Server, free_port, program, run_module

_KEY = "images/belt/2026/01/31/a.jpeg"
_KEYS = ("temporary-access-key", "temporary-secret-key-of-some-length")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Path]]:
    """An S3 server with TLS of its own, of an authority that no system knows, and that authority's file."""
    folder, ca = tmp_path_factory.mktemp("s3"), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    leaf = ca.issue_cert("localhost")
    leaf.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    leaf.private_key_pem.write_to_path(str(folder / "server.key"))
    (folder / "objects").mkdir()
    port = free_port()
    command = [program("rclone"), "serve", "s3", str(folder / "objects"), "--addr", f"127.0.0.1:{port}"]
    command += ["--cert", str(folder / "server.pem"), "--key", str(folder / "server.key")]
    variables = {"RCLONE_AUTH_KEY": f'"{",".join(_KEYS)}"', "RCLONE_CONFIG": str(folder / "none.conf")}
    server = Server(command, folder / "log", environment=variables, port=port)
    server.start()
    yield server, folder / "ca.pem"
    server.stop()


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Aws]:
    """AWS' services with the S3 server's keys; a machine without any credentials of its own."""
    services = Aws(*_KEYS)
    s3._chain.cache_clear()
    with aws_services(services) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", address)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        yield services
    s3._chain.cache_clear()


@pytest.fixture
def by_role(settings: Settings, secured: tuple[Server, Path]) -> Settings:
    """Settings for that server, with credentials of AWS' chain and a folder of the bucket."""
    server, authority = secured
    return settings.model_copy(
        update={
            "s3_endpoint": f"https://localhost:{server.port}",
            "s3_public_endpoint": f"https://localhost:{server.port}",
            "s3_ca_file": authority,
            "s3_credentials": "aws",
            "s3_access_key": SecretStr("not these"),
            "s3_prefix": "sites/north",
        }
    )


def _web_identity(monkeypatch: pytest.MonkeyPatch, folder: Path, token: str = IDENTITY) -> None:
    (folder / "token").write_text(token)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(folder / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/belts")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")


@pytest.mark.parametrize("source", ["environment", "web identity", "role of the machine"])
def test_every_client_takes_the_credentials_of_the_chain(
    by_role: Settings,
    secured: tuple[Server, Path],
    aws: Aws,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The server checks each signature: of the bucket's making, of bytes, and of presigned URLs."""
    if source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", _KEYS[0])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", _KEYS[1])
        monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    elif source == "web identity":
        _web_identity(monkeypatch, tmp_path)
    else:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    ensure_bucket(by_role)
    objects = ObjectStore(by_role)
    objects.check()
    objects.put_many([(_KEY, jpeg(1)), (_KEY.replace("a.jpeg", "b.jpeg"), jpeg(2))])
    assert objects.get(_KEY) == jpeg(1)
    _put(PutUrls(by_role).sign(_KEY, "image/jpeg", len(jpeg(3)), 60), jpeg(3), by_role.s3_ca_file)
    assert objects.get(_KEY) == jpeg(3)
    assert set(aws.asked) == {"environment": set(), "web identity": {"tokens"}}.get(source, {"metadata"})


def test_credentials_are_replaced_before_they_expire(
    by_role: Settings, aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A process outlives many of them."""
    _web_identity(monkeypatch, tmp_path)
    monkeypatch.setattr(s3, "_TTL", timedelta(0))  # obstore asks each time
    aws.lifetime = timedelta(minutes=9)  # less than botocore's ten minutes
    objects = ObjectStore(by_role)
    ensure_bucket(by_role)
    for number in range(3):
        before = len(aws.asked)
        objects.put(f"images/belt/2026/01/31/{number}.jpeg", jpeg(number))
        assert len(aws.asked) > before


def test_missing_and_rejected_credentials_are_named(
    by_role: Settings, aws: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a sentence with the setting, and exit code 1."""
    words = "There are no credentials for storage: check WASTESTREAM_S3_CREDENTIALS"
    for call in (ensure_bucket, lambda settings: ObjectStore(settings).check()):
        with pytest.raises(StorageUnavailableError, match=words):
            call(by_role)
    environment = {
        **environment_of(by_role),
        "WASTESTREAM_S3_CREDENTIALS": "aws",
        "WASTESTREAM_S3_CA_FILE": str(by_role.s3_ca_file),
    }
    done = run_module("core.bucket", environment=environment)
    assert (done.returncode, words in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    _web_identity(monkeypatch, tmp_path, "forged")
    s3._chain.cache_clear()
    for call in (ensure_bucket, lambda settings: ObjectStore(settings).check()):
        with pytest.raises(StorageUnavailableError, match=words):
            call(by_role)
    assert aws.asked == []


def test_installations_share_a_bucket(settings: Settings) -> None:
    """Each sees its own folder: objects, listings, removals, and the mark of the installation."""
    north = settings.model_copy(update={"s3_prefix": "sites/north"})
    whole, part = ObjectStore(settings), ObjectStore(north)
    ensure_bucket(north)
    part.check()
    part.put_many([(_KEY, jpeg(1))])
    assert whole.size(f"sites/north/{_KEY}") == len(jpeg(1))
    assert "images/belt/2026" in part.folders("images/belt")
    assert [key for page in part.pages("images") for key in page] == [_KEY]
    assert part.size(_KEY) == len(jpeg(1))
    assert part.get_beginning(_KEY, 10)[1] == len(jpeg(1))
    part.delete_many([_KEY])
    assert whole.size(f"sites/north/{_KEY}") is None


def test_the_buckets_name_can_be_part_of_the_host(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As AWS wants it. A name for this test is found by taking the server itself for a proxy."""
    (tmp_path / "objects").mkdir()
    port = free_port()
    command = [program("rclone"), "serve", "s3", str(tmp_path / "objects"), "--addr", f"127.0.0.1:{port}"]
    variables = {"RCLONE_AUTH_KEY": f'"{",".join(_KEYS)}"', "RCLONE_CONFIG": str(tmp_path / "none.conf")}
    server = Server([*command, "--force-path-style=false"], tmp_path / "log", variables, port)
    server.start()
    virtual = settings.model_copy(
        update={
            "s3_endpoint": "http://s3.test",
            "s3_public_endpoint": "http://s3.test",
            "s3_addressing": "virtual",
            "s3_access_key": SecretStr(_KEYS[0]),
            "s3_secret_key": SecretStr(_KEYS[1]),
        }
    )
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
    try:
        ensure_bucket(virtual)
        objects = ObjectStore(virtual)
        objects.check()
        url = PutUrls(virtual).sign(_KEY, "image/jpeg", len(jpeg()), 60)
        assert url.startswith(f"http://wastestream.s3.test/{_KEY}?")
        _put(url, jpeg(), None)
        assert objects.get(_KEY) == jpeg()
        assert (tmp_path / "objects" / "wastestream" / _KEY).read_bytes() == jpeg()
    finally:
        server.stop()


def _put(url: str, data: bytes, authority: Path | None) -> None:
    """Put an object as a client with a presigned URL does."""
    request = urllib.request.Request(url, data, {"Content-Type": "image/jpeg"}, method="PUT")
    context = ssl.create_default_context(cafile=str(authority) if authority else None)
    # `urlopen` would keep the proxies of its first call.
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context))
    with opener.open(request, timeout=10) as answer:
        assert answer.status == 200
