"""Runs of many images, against a small real HTTP server that misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.support.both_clients import Connect
from tests.support.small_server import IMAGE, Server
from wastestream import (
    ApiError,
    AsyncClient,
    Client,
    GaveUpError,
    Image,
    ImageError,
    Job,
    JobLostError,
    NotWastestreamError,
    Outcome,
    Progress,
    Retry,
)
from wastestream.many import CONCURRENCY, GROUP_BYTES, GROUP_FILES

QUICK = Retry(0.2, 0.2)


def jobs_of(outcomes: Iterable[Outcome]) -> list[Job]:
    """Return the jobs, which all outcomes have."""
    return [outcome.job for outcome in outcomes if outcome.job is not None or pytest.fail(str(outcome))]


def given_up(outcomes: Iterator[Outcome], error: type[Exception], sentence: str) -> list[Outcome]:
    """Return the outcomes before the error."""
    items: list[Outcome] = []
    with pytest.raises(error, match=sentence):
        items.extend(outcomes)
    return items


@pytest.mark.parametrize("number", [0, 1, 2, 150])
def test_every_image_has_one_outcome(server: Server, connect: Connect, number: int) -> None:
    """None, one, a few and several groups: each image is classified once."""
    outcomes = list(connect(server.url).classify_many(IMAGE for _ in range(number)))
    assert sorted(outcome.index for outcome in outcomes) == list(range(number))
    assert {job.state for job in jobs_of(outcomes)} == {"classified"} if number else not outcomes
    assert all(job.prediction and job.prediction.probability == 0.9 for job in jobs_of(outcomes))
    assert len(server.jobs) == number


def test_uploads_do_not_wait_for_results(server: Server, connect: Connect) -> None:
    """`upload_many` yields jobs that are queued."""
    server.settles = False
    jobs = jobs_of(connect(server.url).upload_many([IMAGE] * 70))
    assert [job.state for job in jobs] == ["queued"] * 70
    assert len({job.id for job in jobs}) == 70
    assert {call[0] for call in server.calls} == {"POST /v1/images/bulk"}


@pytest.mark.parametrize("fault", [0, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("number", [1, 2])
def test_a_repeated_call_never_doubles(server: Server, connect: Connect, fault: int, number: int) -> None:
    """An upload that fails, or whose answer is lost, is sent again under the same key."""
    server.faults = [(fault, {})]
    outcomes = list(connect(server.url).classify_many([IMAGE] * (1 if fault == 0 else number)))
    keys = [header["Idempotency-Key"] for _, header, _ in server.uploads()]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert len(server.jobs) == len(outcomes)
    assert all(job.settled for job in jobs_of(outcomes))


def test_the_servers_time_to_come_back_is_obeyed(server: Server, connect: Connect) -> None:
    """A server that wants more time than the retries have is given up at once."""
    server.faults = [(503, {"Retry-After": "31"})]
    (outcome,) = given_up(
        connect(server.url, retry=Retry(30)).classify_many([IMAGE]), GaveUpError, r"given up after 30 s"
    )
    assert isinstance(outcome.error, GaveUpError)
    assert isinstance(outcome.error.__cause__, ApiError)
    assert len(server.uploads()) == 1


def test_an_outage_is_logged_once(server: Server, connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """However many tries an outage takes."""
    server.faults = [(503, {}), (503, {})]
    list(connect(server.url, retry=Retry(30)).classify_many([IMAGE]))
    assert caplog.messages == [
        f"{server.url} is not ready (503: Told to answer 503.); trying again for up to 30 s."
    ]


def test_a_rejected_call_is_not_repeated(server: Server, connect: Connect) -> None:
    """A 4xx is final: each image of the call has the server's sentence."""
    server.faults = [(400, {})]
    outcomes = list(connect(server.url).classify_many([IMAGE] * 3))
    assert [(outcome.job, str(outcome.error)) for outcome in outcomes] == [(None, "Told to answer 400.")] * 3
    assert len(server.calls) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejected_key_ends_the_run(server: Server, connect: Connect, status: int) -> None:
    """Every image that was taken has an outcome with the reason; no other is taken."""
    server.faults = [(status, {})] * 99
    images = iter([IMAGE] * 1000)
    outcomes = given_up(connect(server.url).classify_many(images), ApiError, f"Told to answer {status}")
    left = len(list(images))
    assert len(outcomes) + left == 1000
    assert left > 1000 - 2 * GROUP_FILES * CONCURRENCY
    assert {outcome.error.status for outcome in outcomes if isinstance(outcome.error, ApiError)} == {status}


@pytest.mark.parametrize("number", [1, 3])
def test_jobs_that_the_server_lost_are_told(server: Server, connect: Connect, number: int) -> None:
    """A server that has lost its state ends the wait for its jobs."""
    server.forgets = True
    outcomes = list(connect(server.url).classify_many([IMAGE] * number))
    assert all(outcome.job and isinstance(outcome.error, JobLostError) for outcome in outcomes)
    assert len(outcomes) == number


def test_nobody_at_the_address(server: Server, connect: Connect) -> None:
    """Without a server the run is given up when its time ends, and says so."""
    url = server.url.replace("127.0.0.1", "127.0.0.2")  # the same port, where nothing listens
    outcomes = given_up(
        connect(url, retry=Retry(1)).classify_many([IMAGE] * 2),
        GaveUpError,
        r"is unreachable \(no connection\); given up after 1 s",
    )
    assert [(outcome.index, outcome.job) for outcome in outcomes] == [(0, None), (1, None)]


@pytest.mark.parametrize("number", [1, 2])
def test_nobody_works(server: Server, connect: Connect, number: int) -> None:
    """A server that settles nothing, without workers, is given up; outcomes have their jobs."""
    server.settles = False
    server.workers = 0
    many = connect(server.url, retry=Retry(0.2)).classify_many([IMAGE] * number)
    outcomes = given_up(many, GaveUpError, "no worker is running")
    assert len({outcome.job.id for outcome in outcomes if outcome.job}) == number


def test_workers_that_settle_nothing_get_more_time(server: Server, connect: Connect) -> None:
    """And are named when that is over."""
    server.settles = False
    many = connect(server.url, retry=QUICK).classify_many([IMAGE])
    given_up(many, GaveUpError, "although 1 workers run")


def test_another_server_at_the_address(server: Server, connect: Connect) -> None:
    """What is not wastestream is recognised at its first answer."""
    server.RequestHandlerClass = BaseHTTPRequestHandler  # answers 501 and HTML
    given_up(connect(server.url).classify_many([IMAGE] * 2), NotWastestreamError, r"is not wastestream \(501")


def test_an_image_that_cannot_be_read_fails_alone(server: Server, connect: Connect, tmp_path: Path) -> None:
    """A missing file and one over the limit are not sent; the others are."""
    good, huge = tmp_path / "good.jpg", tmp_path / "huge.jpg"
    good.write_bytes(IMAGE)
    with huge.open("wb") as stream:
        stream.truncate(11 * 1024**2)
    outcomes = list(connect(server.url).classify_many([str(tmp_path / "gone.jpg"), good, huge]))
    by_name = {Path(outcome.path or "").name: outcome for outcome in outcomes}
    assert by_name["good.jpg"].job is not None
    for name, sentence in {"gone.jpg": "cannot be read", "huge.jpg": "send at most"}.items():
        error = by_name[name].error
        assert isinstance(error, ImageError)
        assert sentence in str(error)
        assert name in str(error)
    assert len(server.jobs) == 1


def test_what_is_no_image_is_a_mistake_of_the_program(server: Server, connect: Connect) -> None:
    """It is told at once."""
    images: Any = [17]
    given_up(connect(server.url).classify_many(images), TypeError, "int is no image")
    with pytest.raises(ValueError, match="concurrency=0 sends nothing"):
        next(connect(server.url).classify_many([IMAGE], concurrency=0))


def test_images_are_taken_as_they_are_sent(server: Server, connect: Connect) -> None:
    """Only a few groups are in memory, however long the iterable is."""
    taken = 0

    def images() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(2000):
            taken += 1
            yield IMAGE

    server.settles = False
    server.workers = 0
    given_up(connect(server.url, retry=QUICK).classify_many(images()), GaveUpError, "No image was settled")
    assert taken <= 1000 + (CONCURRENCY + 1) * GROUP_FILES


def test_groups_are_bounded_in_bytes(server: Server, connect: Connect) -> None:
    """No call carries more bytes than are worth holding in memory."""
    image = IMAGE + bytes(GROUP_BYTES // 2 - len(IMAGE))
    list(connect(server.url).upload_many([image] * 5))
    sizes = [len(body) for _, _, body in server.uploads()]
    assert len(sizes) == 3
    assert max(sizes) < 1.01 * GROUP_BYTES


def test_what_differs_is_metadata(server: Server, connect: Connect) -> None:
    """Cameras, times and keys of one call stand in its first part; the client's camera is the default."""
    taken = datetime(2026, 1, 31, 8, 15, tzinfo=timezone.utc)
    images = [
        Image(IMAGE, camera="T\u00fcr 7", captured_at=taken, max_age=60),
        Image(IMAGE, idempotency_key="mine"),
    ]
    list(connect(server.url, camera="belt-1").upload_many(images))
    ((_, header, body),) = server.uploads()
    part = re.search(rb'name="metadata"\r\nContent-Type: application/json\r\n\r\n(.*?)\r\n--', body)
    assert part is not None
    assert body.index(b"metadata") < body.index(b"filename")
    first, second = json.loads(part.group(1))["files"]
    assert first.pop("idempotency_key")
    assert first == {"camera": "T\u00fcr 7", "captured_at": "2026-01-31T08:15:00+00:00", "max_age": 60}
    assert second == {
        "camera": "belt-1",
        "captured_at": None,
        "max_age": None,
        "idempotency_key": "mine",
    }
    assert "Idempotency-Key" not in header
    assert "X-Camera-Id" not in header


def test_what_is_the_same_stands_in_the_header(server: Server, connect: Connect) -> None:
    """Then there is nothing else to send."""
    list(connect(server.url, camera="T\u00fcr 7").upload_many([Image(IMAGE, max_age=1.5)] * 2))
    ((_, header, body),) = server.uploads()
    assert (header["X-Camera-Id"], header["X-Max-Age"]) == ("T%C3%BCr 7", "1.500")
    assert b"metadata" not in body


def test_the_same_job_twice_is_two_outcomes(server: Server, connect: Connect) -> None:
    """Two images under one key of the caller's are one job; each has its outcome."""
    named = Image(IMAGE, idempotency_key="k")
    images: list[Image | bytes] = [named, *[IMAGE] * GROUP_FILES, named]
    jobs = {outcome.index: outcome.job for outcome in connect(server.url).classify_many(images)}
    assert sorted(jobs) == list(range(len(images)))


def test_progress_is_told(server: Server, connect: Connect) -> None:
    """Numbers of images, to the last."""
    steps: list[Progress] = []
    list(connect(server.url).classify_many([IMAGE] * 150, progress=steps.append))
    assert steps[-1] == Progress(total=150, taken=150, waiting=0, finished=150)
    list(connect(server.url).classify_many((IMAGE for _ in range(1)), progress=steps.append))
    assert steps[-1].total is None


def test_an_abandoned_run_sends_nothing_more(server: Server) -> None:
    """A caller who stops early waits for no retry, and leaves no thread that goes on."""
    before = set(threading.enumerate())
    with Client(server.url) as client:
        for _ in client.classify_many(IMAGE for _ in range(10_000)):
            server.faults = [(503, {})] * 1000
            break
    assert not any(thread.name == "wastestream" for thread in set(threading.enumerate()) - before)


def test_an_asynchronous_iterable(server: Server) -> None:
    """`AsyncClient` takes one as well."""

    async def images() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0)
            yield IMAGE

    async def classify() -> list[Outcome]:
        async with AsyncClient(server.url) as client:
            return [outcome async for outcome in client.classify_many(images())]

    assert sorted(outcome.index for outcome in asyncio.run(classify())) == [0, 1, 2]


def test_the_blocking_client_works_inside_an_event_loop(server: Server) -> None:
    """As in a notebook."""

    async def cell() -> list[Outcome]:
        with Client(server.url) as client:
            return list(client.classify_many([IMAGE] * 3))

    assert len(asyncio.run(cell())) == 3
