"""From sources to results, against a small real HTTP server that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import pytest

from infra.client.classification import Classification
from infra.client.client import Client
from infra.client.collect import Source, collect
from infra.client.errors import GaveUpError, NotWastestreamError
from infra.client.results import Result
from infra.client.retry import Retry
from tests.support.images import jpeg

PREDICTION: Final = {
    "label": "biodegradable",
    "probability": 0.9,
    "review": False,
    "model": "1.0+0123456789ab",
}


class Server(ThreadingHTTPServer):
    """Accepts and classifies everything, except where a test says otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, list[str]] = {}
        self.calls: list[tuple[str, str]] = []  # method and path, idempotency key
        self.faults: list[tuple[int, dict[str, str]]] = []  # answered first: status, headers; 0 cuts off
        self.settles = True
        self.forgets = False
        self.workers = 1

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.server_port}"

    def accept(self, key: str, number: int) -> list[dict[str, Any]]:
        """Make `number` jobs, or return the earlier jobs of the key."""
        if key not in self.keys:
            self.keys[key] = [f"{len(self.jobs) + index:026d}" for index in range(number)]
            for job in self.keys[key]:
                self.jobs[job] = {
                    "id": job,
                    "state": "queued",
                    "accepted_at": "2026-01-31T08:15:00.000Z",
                    "settled_at": None,
                    "prediction": None,
                    "error": None,
                }
        return [self.jobs[job] for job in self.keys[key]]

    def show(self, job: str) -> dict[str, Any] | None:
        """Return the job, settled if this server settles, or None if it forgets."""
        if self.forgets:
            return None
        record = self.jobs[job]
        if self.settles:
            record |= {
                "state": "classified",
                "settled_at": "2026-01-31T08:15:00.040Z",
                "prediction": PREDICTION,
            }
        return record


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._take()
        if self.path == "/readyz":
            self._answer(200, {"workers": self.server.workers})
            return
        job = self.server.show(self.path.removeprefix("/v1/jobs/").partition("?")[0])
        if job is None:
            self._answer(404, {"detail": "There is no such job."})
        else:
            self._answer(200, job)

    def do_POST(self) -> None:
        body = self._take()
        if self._fault():
            return
        key = self.headers.get("Idempotency-Key", "")
        if self.path == "/v1/images":
            (job,) = self.server.accept(key, 1)
            self._answer(202, job)
        elif self.path == "/v1/images/bulk":
            parts = body.count(b"Content-Disposition")
            self._answer(
                202, {"items": [{"status": 202, "job": job} for job in self.server.accept(key, parts)]}
            )
        else:
            ids = json.loads(body)["ids"]
            jobs = [self.server.show(job) for job in ids]
            unknown = [job for job, known in zip(ids, jobs, strict=True) if known is None]
            self._answer(200, {"jobs": [job for job in jobs if job], "unknown": unknown})

    def _take(self) -> bytes:
        self.server.calls.append((f"{self.command} {self.path}", self.headers.get("Idempotency-Key", "")))
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _fault(self) -> bool:
        if not self.server.faults:
            return False
        status, headers = self.server.faults.pop(0)
        if status == 0:
            if self.path.startswith("/v1/images"):  # it arrived; only the answer is lost
                self.server.accept(self.headers["Idempotency-Key"], 1)
            self.close_connection = True
            self.connection.close()
        else:
            self._answer(status, {"detail": f"Told to answer {status}."}, headers)
        return True

    def _answer(self, status: int, body: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port."""
    server = Server()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def sources(tmp_path: Path) -> Callable[[int], list[Source]]:
    """A function that makes image files and returns them as sources."""

    def make(number: int) -> list[Source]:
        for index in range(number):
            (tmp_path / f"{index:04d}.jpg").write_bytes(jpeg())
        return collect([tmp_path])

    return make


def run(url: str, sources: Sequence[Source], retry: float = 30) -> tuple[list[Result], list[str]]:
    """Classify `sources`; return the results and the messages about trouble."""
    said: list[str] = []

    async def classify() -> list[Result]:
        async with Client(url, retry=Retry(retry), on_trouble=said.append) as client:
            return [result async for result in Classification(client, sources).results()]

    return asyncio.run(classify()), said


@pytest.mark.parametrize("number", [1, 2, 150])
def test_every_image_has_one_result(
    server: Server, sources: Callable[[int], list[Source]], number: int
) -> None:
    """One, a few and several groups: each image is classified once."""
    results, said = run(server.url, sources(number))
    assert sorted(result.position for result in results) == list(range(number))
    assert {result.state for result in results} == {"classified"}
    assert {result.milliseconds for result in results} == {40.0}
    assert len(server.jobs) == number
    assert said == []


@pytest.mark.parametrize("fault", [0, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("number", [1, 2])
def test_a_retry_never_doubles(
    server: Server, sources: Callable[[int], list[Source]], fault: int, number: int
) -> None:
    """An upload that fails, or whose answer is lost, is sent again under the same key."""
    images = sources(number)
    server.faults = [(fault, {})]
    results, said = run(server.url, images[:1] if fault == 0 else images)
    uploads = [key for path, key in server.calls if path.startswith("POST /v1/images")]
    assert {result.state for result in results} == {"classified"}
    assert len(uploads) == 2
    assert len(set(uploads)) == 1
    assert len(server.jobs) == len(results)
    assert len(said) == 1


def test_an_outage_is_said_once(server: Server, sources: Callable[[int], list[Source]]) -> None:
    """However many tries an outage takes."""
    server.faults = [(503, {}), (503, {})]
    _, said = run(server.url, sources(1))
    assert said == [f"{server.url} is not ready (503: Told to answer 503.); trying again for up to 30 s."]


def test_a_rejected_call_is_not_retried(server: Server, sources: Callable[[int], list[Source]]) -> None:
    """A 4xx is final: each image of the call fails with the server's sentence."""
    server.faults = [(400, {})]
    results, _ = run(server.url, sources(3))
    assert [(result.state, result.error) for result in results] == [("failed", "Told to answer 400.")] * 3
    assert len(server.calls) == 1


@pytest.mark.parametrize("number", [1, 3])
def test_jobs_that_the_server_lost_are_failures(
    server: Server, sources: Callable[[int], list[Source]], number: int
) -> None:
    """A server that has lost its state ends the wait for its jobs."""
    server.forgets = True
    results, _ = run(server.url, sources(number))
    assert [result.state for result in results] == ["failed"] * number
    assert all(result.job and result.error for result in results)


def test_nobody_at_the_address(server: Server, sources: Callable[[int], list[Source]]) -> None:
    """Without a server the command gives up when its retry ends, and says so."""
    images = sources(2)
    url = server.url.replace("127.0.0.1", "127.0.0.2")  # the same port, where nothing listens
    with pytest.raises(GaveUpError, match=r"is unreachable \(no connection\); given up after 1 s"):
        run(url, images, retry=1)


@pytest.mark.parametrize("number", [1, 2])
def test_nobody_works(server: Server, sources: Callable[[int], list[Source]], number: int) -> None:
    """A server that accepts but never settles, without workers, is given up too, and the reason is named."""
    server.settles = False
    server.workers = 0
    with pytest.raises(GaveUpError, match="no worker is running"):
        run(server.url, sources(number), retry=0.2)


def test_another_server_at_the_address(server: Server, sources: Callable[[int], list[Source]]) -> None:
    """A server other than wastestream is recognised at its first answer."""
    server.RequestHandlerClass = BaseHTTPRequestHandler  # answers 501 and HTML
    with pytest.raises(NotWastestreamError, match="check --url"):
        run(server.url, sources(2))


def test_what_was_given_up_is_still_reported(server: Server, sources: Callable[[int], list[Source]]) -> None:
    """Images without a result can be listed with the reason, and with their job if they have one."""
    server.settles = False
    server.workers = 0

    async def classify() -> list[Result]:
        async with Client(server.url, retry=Retry(0.2)) as client:
            work = Classification(client, sources(2))
            with pytest.raises(GaveUpError):
                async for _ in work.results():
                    pass
            return list(work.unfinished("Given up."))

    left = asyncio.run(classify())
    assert [(result.state, result.error) for result in left] == [("queued", "Given up.")] * 2
    assert all(result.job for result in left)


def test_an_unreadable_or_too_large_file_fails_alone(server: Server, tmp_path: Path) -> None:
    """A file that vanished and one over the limit are not sent; the others are."""
    for name in ("gone.jpg", "good.jpg", "huge.jpg"):
        (tmp_path / name).write_bytes(jpeg())
    with (tmp_path / "huge.jpg").open("ab") as stream:
        stream.truncate(11 * 1024**2)
    images = collect([tmp_path])
    (tmp_path / "gone.jpg").unlink()
    results, _ = run(server.url, images)
    by_name = {Path(result.file).name: result for result in results}
    assert by_name["good.jpg"].state == "classified"
    assert "cannot be read" in (by_name["gone.jpg"].error or "")
    assert "send at most" in (by_name["huge.jpg"].error or "")
    assert len(server.jobs) == 1
