"""A small real HTTP server that misbehaves as it is told. It needs nothing but Python 3.10."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

IMAGE: Final = b"\xff\xd8\xff the rest of a JPEG"

PREDICTION: Final = {
    "label": "biodegradable",
    "probability": 0.9,
    "review": False,
    "model": "1.0+0123456789ab",
}


_COUNTS: Final = {
    "received": 3,
    "classified": 2,
    "failed": 1,
    "expired": 0,
    "cancelled": 0,
    "pending": 0,
    "duplicates": 4,
}

LEDGER: Final = {
    "camera": None,
    "from": "2026-01-31T07:00:00.000Z",
    "to": "2026-01-31T08:00:00.000Z",
    "rows": [{"camera": "belt", "hour": "2026-01-31T07:00:00.000Z", **_COUNTS, "balanced": True}],
    "sum": _COUNTS,
    "system": None,
    "balanced": True,
}


class Server(ThreadingHTTPServer):
    """Accepts and classifies everything, except where a test says otherwise."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.jobs: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, list[str]] = {}
        self.retries: dict[str, dict[str, Any]] = {}  # old id to new job
        self.gone: set[str] = set()  # jobs whose images are gone
        self.calls: list[tuple[str, dict[str, str], bytes]] = []  # method and path, header, body
        self.faults: list[tuple[int, dict[str, str]]] = []  # answered first: status, headers; 0 cuts off
        self.problem: dict[str, Any] = {}  # beside the detail of a fault
        self.settles = True
        self.forgets = False
        self.workers = 1
        self.page = 2  # jobs in one answer of a list
        self.feed: list[dict[str, Any]] = []  # settled jobs; cursors are places in it
        self.events = 2  # in one connection, which is cut then
        self._lock = Lock()

    @property
    def url(self) -> str:
        """The address."""
        return f"http://127.0.0.1:{self.server_port}"

    def uploads(self) -> list[tuple[str, dict[str, str], bytes]]:
        """Return the calls that sent images."""
        return [call for call in self.calls if call[0].startswith("POST /v1/images")]

    def accept(self, key: str, number: int) -> list[dict[str, Any]]:
        """Make `number` jobs, or return those that the key made before."""
        with self._lock:
            if key not in self.keys:
                self.keys[key] = [f"{len(self.jobs) + index:026d}" for index in range(number)]
                self.jobs |= {job: _job(job) for job in self.keys[key]}
            return [self.jobs[job] for job in self.keys[key]]

    def show(self, job: str) -> dict[str, Any] | None:
        """Return the job, settled if this server settles, or None if it forgets."""
        if self.forgets or job not in self.jobs:
            return None
        if self.settles:
            self.jobs[job] |= {
                "state": "classified",
                "settled_at": "2026-01-31T08:15:00.040Z",
                "prediction": PREDICTION,
            }
        return self.jobs[job]


def _job(job_id: str, retry_of: str | None = None) -> dict[str, Any]:
    return {
        "id": job_id,
        "state": "queued",
        "camera": "default",
        "captured_at": None,
        "accepted_at": "2026-01-31T08:15:00.000Z",
        "expires_at": None,
        "settled_at": None,
        "prediction": None,
        "error": None,
        "retry_of": retry_of,
        "queue": {"ahead": 3, "eta_seconds": None},
    }


class Handler(BaseHTTPRequestHandler):
    """Answers as the server says."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer a job, the list, or readiness."""
        self._take()
        path = urlsplit(self.path).path
        if path == "/readyz":
            self._answer(200, {"workers": self.server.workers})
        elif self._fault():
            return
        elif path == "/v1/jobs":
            self._list()
        elif path == "/v1/ledger":
            self._answer(200, LEDGER)
        elif path == "/v1/results":
            self._results()
        elif path == "/v1/events":
            self._events()
        else:
            self._show(self.server.show(path.removeprefix("/v1/jobs/")))

    def do_DELETE(self) -> None:
        """Answer cancellation."""
        self._take()
        job = self.server.jobs[self.path.removeprefix("/v1/jobs/")]
        job["state"] = "cancelled"
        self._show(job)

    def do_POST(self) -> None:
        """Answer uploads, queries and retries."""
        body = self._take()
        if self._fault():
            return
        key = self.headers.get("Idempotency-Key", "")
        path = urlsplit(self.path).path
        if path == "/v1/images":
            (job,) = self.server.accept(key, 1)
            self._answer(202, self.server.show(job["id"]) or job if "wait=" in self.path else job)
        elif path == "/v1/images/bulk":
            metadata = re.search(rb'name="metadata".*?\r\n\r\n(.*?)\r\n--', body, re.DOTALL)
            if metadata is None:
                jobs = self.server.accept(key, body.count(b"; filename="))
            else:
                files = json.loads(metadata.group(1))["files"]
                jobs = [job for file in files for job in self.server.accept(file["idempotency_key"], 1)]
            self._answer(202, {"items": [{"status": 202, "job": job} for job in jobs]})
        elif path == "/v1/jobs/retry":
            self._retry_all(int(json.loads(body).get("after", "0")))
        elif path.endswith("/retry"):
            self._answer(202, self._retry(path.split("/")[-2]))
        else:
            ids = json.loads(body)["ids"]
            jobs = [shown for job in ids if (shown := self.server.show(job))]
            known = {job["id"] for job in jobs}
            self._answer(200, {"jobs": jobs, "unknown": [job for job in ids if job not in known]})

    def _retry(self, old: str) -> dict[str, Any]:
        return self.server.retries.setdefault(old, _job(f"retry of {old}", old))

    def _retry_all(self, after: int) -> None:
        end = after + self.server.page
        items = [
            {"job_id": old, "status": 410, "error": {"type": "/problems/image-gone", "detail": "Gone."}}
            if old in self.server.gone
            else {"job_id": old, "status": 202, "job": self._retry(old)}
            for old in list(self.server.jobs)[after:end]
        ]
        self._answer(202, {"items": items, "next": None if end >= len(self.server.jobs) else str(end)})

    def _list(self) -> None:
        after = int(parse_qs(urlsplit(self.path).query).get("after", ["0"])[0])
        jobs = list(self.server.jobs.values())[after : after + self.server.page]
        last = after + self.server.page >= len(self.server.jobs)
        self._answer(200, {"jobs": jobs, "next": None if last else str(after + self.server.page)})

    def _cursor(self) -> int:
        return int(parse_qs(urlsplit(self.path).query).get("after", ["0"])[0])

    def _results(self) -> None:
        after = self._cursor()
        following = min(after + self.server.page, len(self.server.feed))
        jobs, end = self.server.feed[after:following], following == len(self.server.feed)
        self._answer(200, {"results": jobs, "next": str(following), "end": end})

    def _events(self) -> None:
        """Send some events in pieces, then cut the connection in the middle of the next."""
        after = int(self.headers.get("Last-Event-ID", self._cursor()))
        lines = [f"retry: 10\nid: {after}\n\n", ": heartbeat\n\n", "event: other\ndata: {}\n\n"]
        for number, job in enumerate(self.server.feed[after : after + self.server.events], after + 1):
            text = json.dumps(job, ensure_ascii=False)
            lines.append(f"id: {number}\nevent: result\ndata: {text}\n\n")
        data = "".join([*lines, "id: 999\nevent: res"]).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for at in range(0, len(data), 7):
            self.wfile.write(data[at : at + 7])
        self.close_connection = True

    def _show(self, job: dict[str, Any] | None) -> None:
        if job is None:
            self._answer(404, {"type": "/problems/job-not-found", "detail": "There is no such job."})
        else:
            self._answer(200, job)

    def _take(self) -> bytes:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.calls.append((f"{self.command} {self.path}", dict(self.headers), body))
        return body

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
            self._answer(status, {"detail": f"Told to answer {status}.", **self.server.problem}, headers)
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
