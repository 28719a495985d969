"""Clients that are slow on purpose, in front of a real API process: nobody waits for them."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest

from api.server.limits import MAX_CONNECTIONS_PER_ADDRESS, STALL_TIMEOUT
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.feed import Feed
from core.redis.job_store import JobStore
from core.settings import Settings
from infra.lab.soak.slow_clients import body, header, page, slow_clients
from tests.conftest import environment_of
from tests.support.events import EventReader, settle_long
from tests.support.images import jpeg
from tests.support.servers import Server, small_api, wait_until

_PLACES, _WAITING = 4, 2
_MIB = 1024 * 1024
_FORM = 'multipart/form-data; boundary="b"'


@pytest.fixture
def port(settings: Settings, tmp_path: Path) -> Iterator[int]:
    """The port of an API process with few threads."""
    with small_api(environment_of(settings), tmp_path, places=_PLACES, waiting=_WAITING) as port:
        yield port


@pytest.fixture
def many_files() -> Iterator[None]:
    """Leave for this process to have as many connections as the attack takes."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def tokens(settings: Settings) -> dict[str, str]:
    """Two keys that may send."""
    keys = KeyStore(connect(settings.redis_url.get_secret_value()))
    return {name: keys.create(name, [Scope.INGEST])[1] for name in ("camera", "attacker")}


def _upload(port: int, token: str = "") -> tuple[int, float]:
    """Upload one image on a connection of its own; return the status, and after how many seconds it came."""
    began = time.monotonic()
    headers = {"Content-Type": "image/jpeg"} | ({"Authorization": f"Bearer {token}"} if token else {})
    with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/v1/images", jpeg(), headers)
        with connection.getresponse() as answer:
            answer.read()
            return answer.status, time.monotonic() - began


def test_slow_clients_of_every_kind_at_once_stop_nobody(
    port: int, jobs: JobStore, tokens: dict[str, str], many_files: None
) -> None:
    """340 that never read, 330 headers, 64 single and 4 bulk bodies with a key, 100 bodies without one."""
    assert _upload(port, tokens["camera"])[0] == 202
    attack = [
        page(340),
        header(330),
        body(64, "/v1/images", "image/jpeg", 1_000_000, tokens["attacker"]),
        body(4, "/v1/images/bulk", _FORM, 100_000_000, tokens["attacker"]),
        body(100, "/v1/images", "image/jpeg", 1_000_000),
    ]
    with slow_clients(port, attack):
        seen = []
        for _ in range(20):
            seen.append(_upload(port, tokens["camera"]))
            time.sleep(1)
    assert {status for status, _ in seen} == {202}
    assert max(seconds for _, seconds in seen) < 2
    assert jobs.pending() == 21


def _begin(opened: contextlib.ExitStack, port: int, path: str, kind: str, length: int) -> HTTPConnection:
    """Begin an upload that stays behind."""
    connection = HTTPConnection("127.0.0.1", port, timeout=STALL_TIMEOUT + 30)
    opened.callback(connection.close)
    connection.putrequest("POST", path)
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(length))
    connection.endheaders(b"--")
    return connection


def _livez(camera: HTTPConnection) -> socket.socket:
    """Ask whether the API lives; return the connection's socket."""
    camera.request("GET", "/livez")
    with camera.getresponse() as answer:
        assert answer.status == 200
        answer.read()
    return camera.sock


def test_what_does_not_come_and_what_nobody_takes_is_given_up(port: int, jobs: JobStore) -> None:
    """Body and header are answered 408, an answer and a stream of events are dropped.

    A camera keeps its connection between calls, and a stream that has nothing to send is kept.
    """
    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        stream.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert stream.recv(16) == b"HTTP/1.1 200 OK\r"
        quiet = EventReader(port, "?camera=nobody")
        opened.callback(quiet.close)
        ids = settle_long(jobs, 4000)
        camera = opened.enter_context(contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        own = _livez(camera)
        (reader,) = opened.enter_context(slow_clients(port, [page(1)]))
        first = reader.socket
        silent = [
            _begin(opened, port, path, kind, 900)
            for path, kind in [("/v1/images", "image/jpeg"), ("/v1/images/bulk", _FORM)]
        ]
        with socket.create_connection(("127.0.0.1", port), timeout=30) as late:
            late.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Late: ")
            text = b"".join(iter(lambda: late.recv(4096), b""))  # to the end of the connection
        assert text.startswith(b"HTTP/1.1 408 ")
        assert b"took more than 10 seconds" in text
        for connection in silent:
            answer = connection.getresponse()
            assert (answer.status, answer.headers["Connection"]) == (408, "close")
            assert "2 bytes in 2" in json.load(answer)["detail"]
        wait_until(lambda: reader.socket is not first, "the connection to be closed", STALL_TIMEOUT + 20)
        received = bytearray()
        with contextlib.suppress(ConnectionResetError):
            while data := stream.recv(1 << 20):
                received += data
        assert 0 < received.count(b"\nevent: result\n") < len(ids)
        # A stream that has nothing to send goes on, and its reader's cursor does not become too old.
        wait_until(lambda: quiet.comments > 0, "a heartbeat")
        assert (quiet.last_id, quiet.ended.is_set()) == (str(Feed(jobs.client).end()), False)
        assert _livez(camera) is own


def test_bulk_uploads_and_waiting_requests_leave_threads_for_others(port: int) -> None:
    """With all the waiting that may be, and more, a single image is taken at once."""
    single = HTTPConnection("127.0.0.1", port, timeout=10)
    image = {"Content-Type": "image/jpeg"}
    with contextlib.ExitStack() as opened:
        opened.callback(single.close)
        single.request("POST", "/v1/images", jpeg(), image)
        job_id = json.load(single.getresponse())["id"]
        _begin(opened, port, "/v1/images/bulk", _FORM, 900)
        waiting = [HTTPConnection("127.0.0.1", port, timeout=40) for _ in range(_PLACES + 2 * _WAITING)]
        for connection in waiting:
            opened.callback(connection.close)
            connection.request("GET", f"/v1/jobs/{job_id}?wait=5")
        began = time.monotonic()
        single.request("POST", "/v1/images", jpeg(), image)
        assert single.getresponse().status == 202
        assert time.monotonic() - began < 4  # not when the others end
        answers = [connection.getresponse() for connection in waiting]
        assert sum(answer.headers["Retry-After"] is None for answer in answers) == _WAITING


def test_memory_for_bodies_is_bounded_and_shared(
    port: int, jobs: JobStore, tokens: dict[str, str], tmp_path: Path
) -> None:
    """A client gets a share of it; its further uploads wait, and are answered 503 while it still sends."""
    api = next(process for process in psutil.process_iter() if _listens_on(process, port))
    processes = [api, *api.children(recursive=True)]
    assert _upload(port, tokens["camera"])[0] == 202
    before = sum(process.memory_info().rss for process in processes)
    size = 10 * _MIB
    with contextlib.ExitStack() as opened:
        clients = []
        for _ in range(24):
            client = HTTPConnection("127.0.0.1", port, timeout=60)
            opened.callback(client.close)
            client.putrequest("POST", "/v1/images")
            client.putheader("Content-Type", "image/jpeg")
            client.putheader("Content-Length", str(size))
            client.putheader("Authorization", f"Bearer {tokens['attacker']}")
            client.endheaders()
            clients.append(client)
        for client in clients[:6]:
            client.send(bytes(size - 1))
        peak = sum(process.memory_info().rss for process in processes)
        assert 55 * _MIB < peak - before < 110 * _MIB
        assert _upload(port, tokens["camera"])[0] == 202
        for client in clients[6:]:
            client.send(bytes(size))
            answer = client.getresponse()
            assert answer.status == 503
            assert answer.headers["Retry-After"]
            assert "send fewer at a time" in json.load(answer)["detail"]
        assert sum(process.memory_info().rss for process in processes) - before < 110 * _MIB
        for client in clients[:6]:
            client.send(b"\0")
            assert client.getresponse().status == 415
    assert jobs.pending() == 2


def _listens_on(process: psutil.Process, port: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get("WASTESTREAM_PORT") == str(port)
    return False


def test_connections_of_one_address_are_bounded(port: int, many_files: None) -> None:
    """The connection idle for longest makes room for a new one."""
    with contextlib.ExitStack() as opened:
        camera = opened.enter_context(contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=10)))
        sockets = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            for _ in range(MAX_CONNECTIONS_PER_ADDRESS + 50)
        ]
        own = _livez(camera)
        for closed in sockets[:50]:
            with contextlib.suppress(ConnectionResetError):
                assert closed.recv(1) == b""
        sockets[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sockets[-1].recv(12) == b"HTTP/1.1 200"
        assert _livez(camera) is own
        assert _upload(port)[0] == 202


def test_a_frozen_redis_does_not_make_the_api_look_dead(
    port: int, jobs: JobStore, tokens: dict[str, str], redis_server: Server
) -> None:
    """Probes are answered at once, though all other requests wait for Redis."""
    assert _upload(port, tokens["camera"])[0] == 202
    assert redis_server.process is not None
    watcher = HTTPConnection("127.0.0.1", port, timeout=2)
    with contextlib.closing(watcher), ThreadPoolExecutor(20) as cameras:
        redis_server.process.send_signal(signal.SIGSTOP)
        try:
            uploads = [cameras.submit(_upload, port, token) for token in 10 * ["ws_wrong", tokens["camera"]]]
            for _ in range(6):
                _livez(watcher)
                time.sleep(0.5)
        finally:
            redis_server.process.send_signal(signal.SIGCONT)
        assert {upload.result()[0] for upload in uploads} <= {202, 401, 503}
