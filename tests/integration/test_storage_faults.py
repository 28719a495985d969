"""Storage that does not take uploads: 503, the cause by name, and everything goes on when it does again."""

from __future__ import annotations

import io
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import create_app
from core.bucket import ensure_bucket
from core.errors import StorageUnavailableError
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from tests.support.images import encoded, jpeg, pattern
from tests.support.servers import Server, free_port, program, wait_until
from tests.support.stream import finish, upload

pytestmark = pytest.mark.usefixtures("fresh_readiness")


def _storage(client: FlaskClient) -> str:
    """Return the storage part of `/readyz`; check its status."""
    answer = client.get("/readyz")
    said = str(answer.get_json()["checks"]["storage"])
    assert answer.status_code == (200 if said == "ok" else 503)
    return said


def _rejected(client: FlaskClient, data: bytes | None = None, kind: str = "image/jpeg") -> None:
    """Check that uploads are answered 503, not with a 4xx for which a camera would drop its image."""
    single = client.post("/v1/images", data=data or jpeg(), headers={"Content-Type": kind})
    parts = [(io.BytesIO(data or jpeg(seed)), f"{seed}.jpg", kind) for seed in range(3)]
    bulk = client.post("/v1/images/bulk", data={"i": parts})
    assert [(answer.status_code, "Retry-After" in answer.headers) for answer in (single, bulk)] == [
        (503, True),
        (503, True),
    ]


def test_a_bucket_that_does_not_exist(
    settings: Settings, jobs: JobStore, client: FlaskClient, start_worker: Callable[..., Server]
) -> None:
    """Uploads are to be sent again, and jobs whose images a worker cannot look for there go on waiting."""
    gone = settings.model_copy(update={"s3_bucket": "nobody-made-it"})
    without = create_app(gone).test_client()
    _rejected(without)
    assert "The bucket does not exist: start the stack again, or make it (docs/operations.md)" in _storage(
        without
    )
    job = upload(client)
    assert without.get(f"/v1/jobs/{job}/image").status_code == 503
    lost = start_worker("lost", WASTESTREAM_S3_BUCKET=gone.s3_bucket)
    wait_until(lambda: "not settled" in lost.log.read_text(), "the worker to miss the bucket")
    lost.stop()
    start_worker()
    finish(jobs, [job])
    ensure_bucket(gone)
    # As storage it will do; but Redis belongs to another bucket, which the API finds out.
    assert without.get("/readyz").get_json()["checks"]["storage"] == "ok"


def test_keys_that_are_refused(settings: Settings) -> None:
    """A wrong secret key."""
    stranger = create_app(settings.model_copy(update={"s3_secret_key": SecretStr("wrong" * 5)})).test_client()
    _rejected(stranger)
    assert "Storage denies access: check the S3 keys" in _storage(stranger)


def test_puts_that_fail_while_gets_do_not(settings: Settings, s3_server: Server, tmp_path: Path) -> None:
    """Readiness tries an upload's calls, and is restored as soon as the server takes objects again."""
    objects = ObjectStore(settings)
    objects.ping()
    port = free_port()
    address = s3_server.command.index("--addr") + 1
    command = [*s3_server.command[:address], f"127.0.0.1:{port}", *s3_server.command[address + 1 :]]
    server = Server([*command, "--read-only"], tmp_path / "log", s3_server.environment, port)
    client = create_app(settings.model_copy(update={"s3_endpoint": f"http://127.0.0.1:{port}"})).test_client()
    server.start()
    try:
        _rejected(client)
        assert _storage(client).startswith("Storage ")
        server.kill()
        assert "Storage does not answer" in _storage(client)
        server.command = command
        server.start()
        wait_until(lambda: _storage(client) == "ok", "storage to take objects again", 10)
        upload(client)
    finally:
        server.stop()


@pytest.fixture
def small_disk(tmp_path: Path, s3_server: Server) -> Iterator[Settings]:
    """An S3 server on a disk of 1 MB."""
    folder, port = tmp_path / "disk", free_port()
    folder.mkdir()
    alone = ["unshare", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
        pytest.skip("a disk of its own takes the right to mount one")
    serve = f"exec {program('rclone')} serve s3 {folder} --addr 127.0.0.1:{port} --vfs-cache-mode off"
    script = f"mount -t tmpfs -o size=1m none {folder} && {serve}"
    server = Server([*alone, "sh", "-c", script], tmp_path / "log", s3_server.environment, port)
    server.start()
    yield Settings(s3_endpoint=f"http://127.0.0.1:{port}")
    server.stop()


def test_a_disk_that_is_full_for_images_and_not_for_a_byte(settings: Settings, small_disk: Settings) -> None:
    """The probe is as large as the rejected object, and passes as soon as there is room."""
    full = settings.model_copy(update={"s3_endpoint": small_disk.s3_endpoint})
    ensure_bucket(full)
    objects, client = ObjectStore(full), create_app(full).test_client()
    objects.put_many([("images/belt/a.jpeg", bytes(950_000))])
    assert _storage(client) == "ok"
    large = encoded(pattern(200, 170), "PNG", compress_level=0)  # 100 kB
    _rejected(client, large, "image/png")
    assert "a full disk does this" in _storage(client)
    objects.delete_many(["images/belt/a.jpeg"])
    wait_until(lambda: _storage(client) == "ok", "the disk to have room again", 10)
    upload(client, large, kind="image/png")


def test_a_server_that_hangs_is_named_while_someone_waits(settings: Settings) -> None:
    """Sooner than an upload would give up."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        client = create_app(settings.model_copy(update={"s3_endpoint": endpoint})).test_client()
        began = time.monotonic()
        assert "Storage does not answer" in _storage(client)
        assert time.monotonic() - began < 9


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (507, "XMinioStorageFull", "Storage is full"),
        (403, "QuotaExceeded", "Storage is full"),
        (403, "RequestTimeTooSkewed", "clock"),
        (403, "AccessDenied", "denies access"),
        (404, "NoSuchBucket", "does not exist"),
        (404, "NoSuchKey", "Storage has no such bucket"),
        (500, "InternalError", "its own log says why"),
    ],
)
def test_what_other_servers_say_is_understood(status: int, code: str, sentence: str) -> None:
    """MinIO's, Ceph's and AWS' codes, answered by hand: none of these servers runs here."""

    class Rejecting(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = f"<Error><Code>{code}</Code></Error>".encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Rejecting) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        objects = ObjectStore(Settings(s3_endpoint=f"http://127.0.0.1:{server.server_port}"))
        with pytest.raises(StorageUnavailableError, match=sentence):
            objects.check()
        with pytest.raises(StorageUnavailableError, match=sentence):
            objects.put_many([("images/belt/a.jpeg", b"image")])
        server.shutdown()


def test_probes_put_seldom_while_all_goes_well(settings: Settings) -> None:
    """A bucket that keeps versions would keep each of them; an upload that fails is reason for the next."""
    log: list[str] = []
    full = threading.Event()

    class Storage(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            log.append("PUT")
            self.rfile.read(int(self.headers["Content-Length"]))
            self._answer(507 if full.is_set() else 200)

        def do_GET(self) -> None:
            log.append("GET")
            self._answer(200)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.send_header("ETag", '"0"')
            self.send_header("Last-Modified", "Fri, 27 Nov 2026 00:00:00 GMT")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Storage) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        objects = ObjectStore(settings.model_copy(update={"s3_endpoint": endpoint}))
        for _ in range(3):
            objects.check()
        assert log == ["PUT", "GET", "GET", "GET"]
        full.set()
        for call in (partial(objects.put, "images/belt/a.jpeg", b"image"), objects.check):
            with pytest.raises(StorageUnavailableError, match="Storage is full"):
                call()
        full.clear()
        log.clear()
        objects.check()
        objects.check()
        assert log == ["PUT", "PUT", "GET", "GET"]
        server.shutdown()
