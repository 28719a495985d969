"""Readers of the feed of either client, against a small real HTTP server."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path

import pytest

from tests.support.both_clients import Connect, take
from tests.support.small_server import PREDICTION, Server
from wastestream import ApiError, NotWastestreamError, Retry
from wastestream.problems import CursorExpiredError


@pytest.fixture
def server(server: Server) -> Server:
    """A server with five settled jobs."""
    for number in range(5):
        job = server.accept(f"{number}", 1)[0]
        text = "a line\u2028that\x85goes on"
        settled = {"state": "classified", "settled_at": "2026-01-31T08:15:00.040Z", "prediction": PREDICTION}
        server.feed.append({**job, **settled, "error": text})
    return server


def _ids(server: Server) -> list[str]:
    return [job["id"] for job in server.feed]


def test_results_are_read_page_by_page(server: Server, connect: Connect) -> None:
    """To the end of the feed, with what was asked for in each call."""
    results = connect(server.url).results(
        camera="belt 1", state=["failed", "classified"], since=date(2026, 1, 31)
    )
    assert [job.id for job in results] == _ids(server)
    select = "camera=belt+1&state=failed%2Cclassified"
    assert [call for call, _, _ in server.calls] == [
        f"GET /v1/results?from=2026-01-31&{select}&limit=1000",
        f"GET /v1/results?after=2&{select}&limit=1000",
        f"GET /v1/results?after=4&{select}&limit=1000",
    ]
    assert [job.id for job in connect(server.url).results(after="3")] == _ids(server)[3:]


def test_results_that_are_followed_do_not_end(server: Server, connect: Connect) -> None:
    """At the end the call waits for the next; a server that is away for a moment is asked again."""
    server.faults = [(0, {}), (503, {})]
    client = connect(server.url, retry=Retry(seconds=30))
    assert [job.id for job in take(client, 5, "results", follow=True)] == _ids(server)
    assert all("wait=20.000" in call for call, _, _ in server.calls)


def test_a_file_keeps_where_a_reader_stopped(server: Server, connect: Connect, tmp_path: Path) -> None:
    """Only what the caller was done with counts: of a page begun, all comes again."""
    file, client = tmp_path / "cursor", connect(server.url)
    assert [job.id for job in take(client, 3, "results", cursor_file=file)] == _ids(server)[:3]
    assert file.read_text() == "2\n"
    assert [job.id for job in client.results(cursor_file=str(file), since=date(2026, 1, 1))] == _ids(server)[
        2:
    ]
    assert file.read_text() == "5\n"
    assert list(client.results(cursor_file=file)) == []
    assert [path.name for path in tmp_path.iterdir()] == ["cursor"]


def test_events_outlive_the_end_of_a_connection(server: Server, connect: Connect, tmp_path: Path) -> None:
    """Each comes once: a new connection goes on behind the last whole event."""
    server.faults = [(503, {"Retry-After": "0"})]
    file = tmp_path / "cursor"
    jobs = take(connect(server.url), 5, "events", camera="belt", cursor_file=file)
    assert [job.id for job in jobs] == _ids(server)
    assert jobs[0].error == "a line\u2028that\x85goes on"
    sent = [header.get("Last-Event-ID") for _, header, _ in server.calls]
    assert sent == [None, None, "2", "4"]
    assert file.read_text() == "4\n"  # The caller was not done with the last.
    assert [job.id for job in take(connect(server.url), 1, "events", cursor_file=file)] == _ids(server)[4:]


@pytest.mark.parametrize("name", ["results", "events"])
def test_what_the_server_rejects_is_raised(server: Server, connect: Connect, name: str) -> None:
    """A cursor that is too old has the class of its problem, and where to go on."""
    server.faults = [(410, {}), (404, {})]
    server.problem = {"type": "/problems/cursor-expired", "oldest": "7-0-0"}
    with pytest.raises(CursorExpiredError) as expired:
        take(connect(server.url), 1, name, after="1-0-0")
    assert expired.value.oldest == "7-0-0"
    server.problem = {}
    with pytest.raises(ApiError, match="404"):
        take(connect(server.url), 1, name)


def test_an_answer_that_is_no_stream(server: Server, connect: Connect) -> None:
    """Some other server is at the address."""
    server.faults = [(200, {})]
    with pytest.raises(NotWastestreamError):
        take(connect(server.url), 1, "events")


def test_wrong_arguments(server: Server, connect: Connect) -> None:
    """Before anything is sent."""
    client = connect(server.url)
    with pytest.raises(ValueError, match="not both"):
        take(client, 1, "results", after="1-0-0", since=date(2026, 1, 1))
    with pytest.raises(ValueError, match="has no zone"):
        take(client, 1, "events", since=datetime(2026, 1, 1))  # noqa: DTZ001
    assert server.calls == []
