"""Clients that begin an upload and then send nothing, in front of a real API process."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from api.body import SILENT_SECONDS
from core.settings import Settings
from tests.conftest import environment_of
from tests.support.pictures import jpeg
from tests.support.servers import small_api

_PLACES, _WAITING = 4, 2
_THREADS = _PLACES + _WAITING
_FORM = 'multipart/form-data; boundary="b"'


@pytest.fixture
def port(settings: Settings, tmp_path: Path) -> Iterator[int]:
    """The port of an API process with few threads."""
    with small_api(environment_of(settings), tmp_path, places=_PLACES, waiting=_WAITING) as port:
        yield port


def _alive(connection: HTTPConnection) -> bool:
    connection.request("GET", "/livez")
    with connection.getresponse() as answer:
        answer.read()
        return answer.status == 200


@pytest.mark.parametrize(("path", "kind"), [("/v1/images", "image/jpeg"), ("/v1/images/bulk", _FORM)])
def test_a_silent_upload_gives_its_thread_back(port: int, path: str, kind: str) -> None:
    """As many of them as there are threads: each is answered in the end, and the API serves again."""
    with contextlib.ExitStack() as opened:
        silent = []
        for _ in range(_THREADS):
            each = HTTPConnection("127.0.0.1", port, timeout=SILENT_SECONDS + 30)
            opened.callback(each.close)
            each.putrequest("POST", path)
            each.putheader("Content-Type", kind)
            each.putheader("Content-Length", "900")
            each.endheaders(b"--")
            silent.append(each)
        answers = [each.getresponse() for each in silent]
        for answer in answers:
            # Not more bulk uploads are read at a time than there is memory for; the rest is told so at once.
            assert answer.status in ({408, 503} if "bulk" in path else {408})
            if answer.status == 408:
                assert b"Nothing of the body came" in answer.read()
        assert 408 in {answer.status for answer in answers}
        served = HTTPConnection("127.0.0.1", port, timeout=10)
        opened.callback(served.close)
        assert _alive(served)


def _begin_bulk(opened: contextlib.ExitStack, port: int) -> HTTPConnection:
    """Begin a bulk upload that stays behind."""
    connection = HTTPConnection("127.0.0.1", port, timeout=SILENT_SECONDS + 30)
    opened.callback(connection.close)
    connection.putrequest("POST", "/v1/images/bulk")
    connection.putheader("Content-Type", _FORM)
    connection.putheader("Content-Length", "900")
    connection.endheaders(b"--")
    return connection


def test_bulk_uploads_and_waiting_requests_leave_threads_for_others(port: int) -> None:
    """With all the bulk uploads and all the waiting that may be, a single image is taken at once."""
    single = HTTPConnection("127.0.0.1", port, timeout=10)
    image = {"Content-Type": "image/jpeg"}
    with contextlib.ExitStack() as opened:
        opened.callback(single.close)
        single.request("POST", "/v1/images", jpeg(), image)
        job_id = json.load(single.getresponse())["id"]
        _begin_bulk(opened, port)
        for _ in range(_THREADS):
            waiting = HTTPConnection("127.0.0.1", port, timeout=40)
            opened.callback(waiting.close)
            waiting.request("GET", f"/v1/jobs/{job_id}?wait=15")
        time.sleep(0.5)  # Nothing tells from outside that they are under way.
        began = time.monotonic()
        single.request("POST", "/v1/images", jpeg(), image)
        assert single.getresponse().status == 202
        assert time.monotonic() - began < 10  # not when the others end


def test_a_large_bulk_upload_reads_that_all_places_are_taken(port: int) -> None:
    """503 with what to do, though the client is still sending 20 MB."""
    with contextlib.ExitStack() as opened:
        _begin_bulk(opened, port)
        time.sleep(0.5)  # as above
        large = HTTPConnection("127.0.0.1", port, timeout=30)
        opened.callback(large.close)
        large.request("POST", "/v1/images/bulk", bytes(20_000_000), {"Content-Type": _FORM})
        answer = large.getresponse()
        assert answer.status == 503
        assert answer.headers["Retry-After"]
        assert "send fewer at a time" in json.load(answer)["detail"]


def test_a_connection_that_is_kept_open_is_no_silent_upload(port: int) -> None:
    """A camera that sends a picture now and then goes on using its connection."""
    camera = HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(camera):
        assert _alive(camera)
        own = camera.sock
        time.sleep(SILENT_SECONDS + 2)
        assert _alive(camera)
        assert camera.sock is own
