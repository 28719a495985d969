"""Requests that are rejected, in front of a real API process: their senders can read why."""

from __future__ import annotations

import contextlib
import json
import random
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import playwright
import pytest

from api.http.problem_types import ProblemType
from core.redis.api_keys import KeyStore, Scope
from core.redis.client import connect
from core.redis.job_store import JobStore
from tests.conftest import environment_of, fresh_settings
from tests.support.images import jpeg
from tests.support.servers import Server, small_api, wait_until

KIB = 1024
SIZES = [64 * KIB, 1024 * KIB, 4096 * KIB, 9216 * KIB, 24 * 1024 * KIB]

SEND = Path(__file__).parents[1] / "support" / "send.mjs"


@dataclass(frozen=True)
class Api:
    """A real API process, a key for it, its log, and its jobs."""

    port: int
    key: str
    log: Path
    jobs: JobStore


@pytest.fixture(scope="module")
def api(redis_server: Server, s3_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that needs a key; the tests share it."""
    settings = fresh_settings(redis_server, s3_server)
    client = connect(settings.redis_url.get_secret_value())
    _, token = KeyStore(client).create("camera", [Scope.INGEST, Scope.READ])
    variables = environment_of(settings) | {"WASTESTREAM_ACCESS_LOG": "1"}
    folder = tmp_path_factory.mktemp("api")
    with small_api(variables, folder, places=4, waiting=2) as port:
        yield Api(port, token, folder / "log", JobStore(client))


def rejected(key: str) -> list[tuple[str, str, dict[str, str], int]]:
    """Requests by method, path and header fields, and the status that each must be answered with."""
    image = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {key}"}
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    form = {**image, "Content-Type": "multipart/form-data"}
    return [
        ("POST", "/v1/images", {**image, "X-Camera-Id": "../a"}, 400),
        ("POST", "/v1/images", {**image, "X-Captured-At": later}, 422),
        ("POST", "/v1/images?wait=soon", image, 400),
        ("POST", "/v1/nowhere", image, 404),
        ("POST", "/livez", image, 405),
        ("PUT", "/v1/images", image, 405),
        ("POST", "/v1/images/bulk", form, 400),
        ("POST", "/v1/images", {"Content-Type": "image/jpeg"}, 401),
        ("POST", "/v1/images", {**image, "Authorization": "Bearer ws_wrong"}, 401),
        ("POST", "/v1/images", {**image, "Content-Type": "text/plain"}, 415),
        ("POST", "/v1/jobs/query", image, 415),
    ]


def expected(path: str, size: int, status: int) -> int:
    """Return the status of a request that may also be too large."""
    too_large = path == "/v1/images" and size > 10 * KIB * KIB
    return 413 if too_large and status in {400, 415, 422} else status


def problem(status: int, body: bytes | str) -> dict[str, Any]:
    """Check that an answer's body is a problem document with a sentence; return it."""
    document: dict[str, Any] = json.loads(body)
    assert document["status"] == status
    assert document["type"] in {kind.uri for kind in ProblemType if kind.status == status}
    assert re.fullmatch(r"\S.+\S\.", document["detail"], re.DOTALL)
    return document


def test_python_reads_why_it_is_rejected_and_what_becomes_of_the_connection(api: Api) -> None:
    """With any amount of bytes sent: a connection said to stay open serves the next request; others close."""
    connection = HTTPConnection("127.0.0.1", api.port, timeout=30)
    with contextlib.closing(connection):
        for size in SIZES:
            for method, path, headers, status in rejected(api.key):
                connection.request(method, path, bytes(size), headers)
                own = connection.sock
                answer = connection.getresponse()
                problem(answer.status, answer.read())
                assert answer.status == expected(path, size, status), (method, path, size)
                assert answer.headers["Connection"] == "keep-alive"
                connection.request("GET", "/livez")
                assert connection.sock is own  # not closed, so not opened again either
                assert connection.getresponse().read()
        connection.request("POST", "/v1/images", b"", {"Connection": "close"})
        with connection.getresponse() as answer:
            assert answer.headers["Connection"] == "close"
            problem(401, answer.read())


def test_node_reads_why_it_is_rejected(api: Api) -> None:
    """With the same requests; it looks for the answer while it sends."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    requests: list[dict[str, Any]] = [
        {"method": method, "path": path, "headers": headers, "size": size, "status": status}
        for size in SIZES
        for method, path, headers, status in rejected(api.key)
    ]
    done = subprocess.run(
        [shutil.which("node") or node, SEND, str(api.port)],
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for request, answer in zip(requests, answers, strict=True):
        assert "error" not in answer, (request, answer)
        assert answer["status"] == expected(request["path"], request["size"], request["status"])
        assert answer["connection"] == "keep-alive"
        problem(answer["status"], answer["body"])


def test_who_asks_before_sending_is_rejected_before_it_sends(api: Api) -> None:
    """`Expect: 100-continue` without a key: no leave is given, and the connection closes."""
    head = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9000000\r\n"
    answer = exchange(api.port, head + b"Expect: 100-continue\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"\r\nConnection: close\r\n" in answer


def exchange(port: int, data: bytes) -> bytes:
    """Send bytes; return all bytes received until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(data)
        return b"".join(iter(lambda: client.recv(65536), b""))


_SECRET = b"\xff\xd8\xffSECRET-PIXELS"

_BROKEN_CHUNKS = [
    b"zz\r\n" + _SECRET,
    b"-5\r\n" + _SECRET,
    b"0x5\r\n" + _SECRET,
    b"5\n" + _SECRET,
    b"5\r" + _SECRET,
    b"5\r\n" + _SECRET,
    b"FFFFFFFFFFFFFFFFF\r\n" + _SECRET,
    b"\r\n" + _SECRET,
    b"5 ;a\r\n" + _SECRET,
    b"5;\x00\r\n" + _SECRET,
]


def test_malformed_requests_are_answered_with_a_sentence_and_hardly_logged(api: Api) -> None:
    """400 for every kind of malformed request; the log has no bytes of their bodies, and no traceback."""
    key = f"Authorization: Bearer {api.key}".encode()
    for path in (b"/v1/images", b"/session", b"/v1/jobs/query"):
        head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n%s\r\n\r\n" % (
            path,
            key,
        )
        for chunks in _BROKEN_CHUNKS:
            answer = exchange(api.port, head + chunks)
            begin, _, body = answer.partition(b"\r\n\r\n")
            assert begin.startswith(b"HTTP/1.1 400 "), chunks
            assert b"chunks are malformed" in body
            problem(400, body)
    for garbage in (
        _SECRET + b"\r\n\r\n",
        b"GET /v1/images HTTP/3.0\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ):
        begin, _, body = exchange(api.port, garbage).partition(b"\r\n\r\n")
        assert begin.startswith(b"HTTP/1.1 400 "), garbage
        problem(400, body)
    long = exchange(api.port, b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: " + 40_000 * b"x" + b"\r\n\r\n")
    assert long.startswith(b"HTTP/1.1 431 ")
    with contextlib.closing(HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {api.key}"}
        for route, status, says in (
            ("/v1/jobs/query", 400, "nested too deeply"),
            ("/session", 413, "The body has more than 4,096 bytes; send less."),
        ):
            connection.request("POST", route, 900_000 * b"[", headers)
            with connection.getresponse() as response:
                assert says in problem(status, response.read())["detail"]
    again = re.compile(rb"malformed; send a Content-Length instead\. \(\d+ times more\)")
    wait_until(lambda: again.search(api.log.read_bytes()) is not None, "the count")
    log = api.log.read_bytes()
    assert b"Traceback" not in log
    assert b"SECRET" not in log
    assert b"was answered 400: The body's chunks are malformed" in log
    errors = [line for line in log.splitlines() if b"was answered" in line]
    assert len(errors) < 20  # of 38


def test_no_client_speaks_for_a_proxy(api: Api) -> None:
    """Not by SCRIPT_NAME, which would change the path, nor by a name that becomes another field's."""
    head = b"GET /livez/v1/ledger HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert exchange(api.port, head + b"SCRIPT_NAME: /livez\r\n\r\n").startswith(b"HTTP/1.1 404 ")
    data, before = jpeg(), api.jobs.pending()
    fields = [
        "POST /v1/images HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Authorization: Bearer {api.key}",
        "Content-Type: image/jpeg",
        f"Content-Length: {len(data)}",
        "X_Camera_Id: ../a",
        "Script-Name: /evil",
        "X-Forwarded-Prefix: /evil",
    ]
    answer = exchange(api.port, "\r\n".join([*fields, "", ""]).encode() + data)
    assert answer.startswith(b"HTTP/1.1 202 ")
    assert b"Location: /v1/jobs/" in answer
    assert b'"camera":"default"' in answer
    assert api.jobs.pending() == before + 1


def test_bodies_in_chunks_are_bodies(api: Api) -> None:
    """However they are cut; one that is too large is answered 413 when it has come."""
    data, rng, before = jpeg(), random.Random(1), api.jobs.pending()  # noqa: S311 - where it is cut, no secret

    def chunks(rest: bytes) -> Iterator[bytes]:
        while rest:
            size = rng.randint(1, max(1, len(rest) // 3))
            yield rest[:size]
            rest = rest[size:]

    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {api.key}"}
    for body, status in [(data, 202), (bytes(11 * KIB * KIB), 413)]:
        with contextlib.closing(HTTPConnection("127.0.0.1", api.port, timeout=30)) as connection:
            connection.request("POST", "/v1/images", chunks(body), headers, encode_chunked=True)
            assert connection.getresponse().status == status
    assert api.jobs.pending() == before + 1
