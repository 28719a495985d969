"""A reader of server-sent events that a test looks into, as the HTML standard (9.2) reads them."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from types import MappingProxyType
from typing import Any, Final

from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome
from core.redis.job_store import JobStore
from tests.support.servers import wait_until

_TIMEOUT: Final = 60  # seconds without a byte


class EventReader:
    """Reads a stream in a thread of its own.

    Attributes:
        status, headers, body: of the response; a body only if it is no stream.
        results: documents of the events `result` so far.
        last_id: as a browser would send it when it connects again.
        comments: number of comments.
    """

    def __init__(self, port: int, query: str = "", headers: Mapping[str, str] = MappingProxyType({})) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT)
        self._connection.request("GET", f"/v1/events{query}", headers=dict(headers))
        self._socket = self._connection.sock  # which the connection forgets, as the response is its last
        self._response = self._connection.getresponse()
        self.status = self._response.status
        self.headers = self._response.headers
        self.results: list[dict[str, Any]] = []
        self.last_id = ""
        self.comments = 0
        self.ended = threading.Event()
        self.body: Any = None
        if self.status == 200:
            threading.Thread(target=self._read, daemon=True).start()
        else:
            self.body = json.loads(self._response.read())
            self.ended.set()

    @property
    def ids(self) -> list[str]:
        """Ids of the results' jobs."""
        return [result["id"] for result in self.results]

    def expect(self, ids: list[str]) -> None:
        """Wait until exactly these results have come."""
        wait_until(lambda: len(self.results) >= len(ids), f"{len(ids)} events")
        assert self.ids == ids

    def close(self) -> None:
        """Disconnect."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.ended.wait(_TIMEOUT)
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        with contextlib.suppress(OSError, HTTPException, ValueError):
            for line in self._response:
                text = line.decode().rstrip("\n")
                name, _, value = text.partition(":")
                if not text:
                    self._dispatch(fields)
                    fields = {}
                elif name:
                    fields[name] = value.removeprefix(" ")
                else:
                    self.comments += 1
        self.ended.set()

    def _dispatch(self, fields: dict[str, str]) -> None:
        self.last_id = fields.get("id", self.last_id)
        if "data" in fields:
            assert fields["event"] == "result"
            self.results.append(json.loads(fields["data"]))


def settle_long(jobs: JobStore, count: int) -> list[str]:
    """Settle jobs whose documents have 4 kB; return their ids."""
    new = [Job(new_job_id(), "belt", "jpeg", 100) for _ in range(count)]
    ids = jobs.accept(new, "single", "test.queue", ["message"]).ids
    for at in range(0, count, 500):
        piece = ids[at : at + 500]
        jobs.settle([Outcome(job_id, JobState.FAILED, error=4000 * "x") for job_id in piece], "m")
    return ids
