"""Clients that begin an upload and then send nothing, in front of a real API process."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from api.body import SILENT_SECONDS
from core.settings import Settings
from tests.conftest import environment_of
from tests.support.servers import Server, free_port

_THREADS = 4
_FORM = 'multipart/form-data; boundary="b"'


@pytest.fixture
def port(settings: Settings, tmp_path: Path) -> Iterator[int]:
    """The port of an API process with few threads."""
    port = free_port()
    variables = environment_of(settings) | {
        "WASTESTREAM_PORT": str(port),
        "WASTESTREAM_API_PROCESSES": "1",
        "WASTESTREAM_API_THREADS": str(_THREADS),
    }
    api = Server([sys.executable, "-m", "api"], tmp_path / "log", environment=variables, port=port)
    api.start()
    yield port
    api.stop()


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


def test_a_connection_that_is_kept_open_is_no_silent_upload(port: int) -> None:
    """A camera that sends a picture now and then goes on using its connection."""
    camera = HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(camera):
        assert _alive(camera)
        own = camera.sock
        time.sleep(SILENT_SECONDS + 2)
        assert _alive(camera)
        assert camera.sock is own
