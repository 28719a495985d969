"""`GET /v1/events` of a real API process: each result once, in order, to readers of every kind."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from types import MappingProxyType

import httpx
import pytest

from core.jobs import JobState
from core.redis.api_keys import KeyStore, Scope
from core.redis.job_store import JobStore
from tests.integration.test_feed import HOUR_MS, accept, settle
from tests.support.events import EventReader, settle_long
from tests.support.servers import Server, wait_until

STREAMS = 12
Open = Callable[..., EventReader]


@pytest.fixture
def api(start_api: Callable[..., Server]) -> Server:
    """An API with few threads, and one more event stream than these."""
    return start_api(WASTESTREAM_API_THREADS="4", WASTESTREAM_API_STREAMS=str(STREAMS))


@pytest.fixture
def port(api: Server) -> int:
    """The API's port."""
    assert api.port is not None
    return api.port


@pytest.fixture
def open_stream(port: int) -> Iterator[Open]:
    """A function that opens a stream."""
    with ExitStack() as opened:

        def open_one(query: str = "", headers: Mapping[str, str] = MappingProxyType({})) -> EventReader:
            reader = EventReader(port, query, headers)
            opened.callback(reader.close)
            return reader

        yield open_one


def test_each_result_comes_once_in_order_as_it_settles(open_stream: Open, port: int, jobs: JobStore) -> None:
    """From now on, from a cursor, or from a time; then as they settle. The data are the job."""
    old = settle(jobs, accept(jobs, 5))
    now, oldest, early = open_stream(), open_stream(f"?after={jobs.now_ms() - HOUR_MS}-0-0"), open_stream()
    since = open_stream("?from=2026-01-01")
    new = settle(jobs, accept(jobs, 3)) + settle(jobs, accept(jobs, 1), JobState.FAILED)
    for reader in (now, early):
        reader.expect(new)
    for reader in (oldest, since):
        reader.expect([*old, *new])
    page = httpx.get(f"http://127.0.0.1:{port}/v1/results?limit=1000").json()
    assert oldest.results == page["results"]
    assert oldest.last_id == page["next"]
    assert now.headers["Content-Type"] == "text/event-stream"
    assert (now.headers["Cache-Control"], now.headers["X-Accel-Buffering"]) == ("no-store", "no")


def test_a_reader_goes_on_where_it_was_cut_off(open_stream: Open, jobs: JobStore) -> None:
    """Also before its first event, within the jobs of one call, and over thousands that settled meanwhile."""
    first = open_stream()
    wait_until(lambda: first.last_id != "", "the id")
    first.close()
    ids = settle(jobs, accept(jobs, 5))
    second = open_stream(headers={"Last-Event-ID": first.last_id})
    second.expect(ids)
    ms, seq, taken = second.last_id.split("-")
    third = open_stream("?after=1-1-1", {"Last-Event-ID": f"{ms}-{seq}-{int(taken) - 2}"})
    third.expect(ids[3:])
    for reader in (second, third):
        reader.close()
    more = [job_id for _ in range(8) for job_id in settle(jobs, accept(jobs, 300))]
    fourth = open_stream(headers={"Last-Event-ID": second.last_id})
    more += settle(jobs, accept(jobs, 2))
    fourth.expect(more)


def test_readers_get_what_they_want_and_may_see(open_stream: Open, jobs: JobStore, keys: KeyStore) -> None:
    """By camera, by state, and by the cameras that their key is bound to."""
    tokens = {
        name: {"Authorization": f"Bearer {keys.create(name, [Scope.READ], cameras=cameras)[1]}"}
        for name, cameras in (("all", ()), ("bound", ("belt-*",)))
    }
    everything = open_stream(headers=tokens["all"])
    bound, failed = (open_stream(query, tokens["bound"]) for query in ("", "?state=failed,expired"))
    line, both = (open_stream(f"?camera=line{more}", tokens["all"]) for more in ("", "&camera=belt-1"))
    ids = [
        *settle(jobs, accept(jobs, 2, "belt-1")),
        *settle(jobs, accept(jobs, 2, "line")),
        *settle(jobs, accept(jobs, 2, "belt-2"), JobState.FAILED),
    ]
    everything.expect(ids)
    bound.expect([*ids[:2], *ids[4:]])
    failed.expect(ids[4:])
    line.expect(ids[2:4])
    both.expect([*ids[:2], *ids[2:4]])
    forbidden = open_stream("?camera=line", tokens["bound"])
    assert (forbidden.status, forbidden.body["type"]) == (403, "/problems/camera-forbidden")
    assert open_stream().status == 401


def test_streams_are_bounded_and_take_no_threads(
    open_stream: Open, port: int, jobs: JobStore, keys: KeyStore
) -> None:
    """Twelve in an API of four threads, half of them for one key; the next is told when to come back."""
    one, other, third = (
        {"Authorization": f"Bearer {keys.create(name, [Scope.READ])[1]}"}
        for name in ("one", "other", "third")
    )
    streams = [open_stream(headers=one) for _ in range(STREAMS // 2)]
    full = [open_stream(headers=one)]
    streams += [open_stream(headers=other) for _ in range(STREAMS // 2)]
    full.append(open_stream(headers=third))
    for rejected in full:
        assert (rejected.status, rejected.body["type"]) == (503, "/problems/server-busy")
        assert int(rejected.headers["Retry-After"]) > 0
    ids = settle(jobs, accept(jobs, 2))
    for stream in streams:
        stream.expect(ids)
    wait_until(lambda: f"wastestream_event_streams {STREAMS}\n" in _metrics(port, one), "the metric", 20)
    streams[0].close()
    wait_until(lambda: open_stream(headers=third).status == 200, "a place")


def _metrics(port: int, headers: dict[str, str]) -> str:
    return httpx.get(f"http://127.0.0.1:{port}/metrics", headers=headers).text


def test_a_reader_that_does_not_read_holds_nobody_up(open_stream: Open, port: int, jobs: JobStore) -> None:
    """While more settles than buffers hold; it gets all of it later."""
    with socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(b"GET /v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert slow.recv(16) == b"HTTP/1.1 200 OK\r"
        quick = open_stream()
        ids = settle_long(jobs, 4000)
        quick.expect(ids)
        received = bytearray()
        while received.count(b"\nevent: result\n") < len(ids):
            data = slow.recv(1 << 20)
            assert data, "The stream has ended."
            received += data
    order = [line[13:39].decode() for line in received.splitlines() if line.startswith(b'data: {"id":"')]
    assert order == ids


def test_streams_end_with_their_rights(open_stream: Open, keys: KeyStore) -> None:
    """When a key is revoked or expires, and those without a key when the first one is made."""
    anonymous = open_stream()
    kept, revoked = keys.create("kept", [Scope.READ]), keys.create("revoked", [Scope.READ])
    expiring = keys.create("expiring", [Scope.READ], expires_ms=kept[0].created_ms + 4000)
    assert anonymous.ended.wait(20)
    streams = [
        open_stream(headers={"Authorization": f"Bearer {token}"}) for _, token in (kept, revoked, expiring)
    ]
    assert [stream.status for stream in streams] == [200] * 3
    keys.revoke("revoked")
    assert streams[1].ended.wait(20)
    assert streams[2].ended.wait(20)
    assert not streams[0].ended.is_set()


def test_a_stream_outlives_a_cut_connection_to_redis(open_stream: Open, jobs: JobStore) -> None:
    """What settles meanwhile comes afterwards, once."""
    stream = open_stream()
    ids = settle(jobs, accept(jobs, 2))
    stream.expect(ids)
    jobs.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    ids += settle(jobs, accept(jobs, 2))
    stream.expect(ids)
    settle_all = threading.Thread(target=lambda: [settle(jobs, accept(jobs, 3)) for _ in range(50)])
    settle_all.start()
    jobs.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # type: ignore[no-untyped-call]
    settle_all.join()
    wait_until(lambda: len(stream.ids) == 154, "all events")
    assert len(set(stream.ids)) == 154


@pytest.mark.parametrize(
    ("query", "header", "status", "says"),
    [
        ("?after=yesterday", "", 400, "'yesterday' is not a cursor"),
        ("?limit=5", "", 400, "'limit' is not a parameter"),
        ("?after=1-2-3&from=2026-01-31", "", 400, "not both"),
        ("", "soon", 400, "Last-Event-ID='soon' is not a cursor"),
        ("", "1-0-0", 410, "no longer kept"),
        ("?after=1-0-0", "", 410, "no longer kept"),
    ],
)
def test_wrong_requests_are_named(
    client: object, settings: object, query: str, header: str, status: int, says: str
) -> None:
    """With a sentence, instead of a stream."""
    response = client.get(f"/v1/events{query}", headers={"Last-Event-ID": header} if header else {})  # type: ignore[attr-defined]
    problem = response.get_json(force=True)
    assert response.status_code == status
    assert says in problem["detail"]
    assert (status == 410) == ("oldest" in problem)


def test_streams_end_when_the_api_stops(api: Server, open_stream: Open) -> None:
    """At once; the process waits for none."""
    streams = [open_stream() for _ in range(3)]
    assert api.kill(signal.SIGTERM) == 0
    assert all(stream.ended.wait(10) for stream in streams)
