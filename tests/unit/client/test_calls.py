"""Single calls of either client, against a small real HTTP server."""

from __future__ import annotations

import json
import pickle
from datetime import date, datetime, timezone
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.both_clients import Connect
from tests.support.small_server import IMAGE, Server
from wastestream import (
    ApiError,
    GaveUpError,
    Image,
    KeyRejectedError,
    NotSettledError,
    Place,
    Prediction,
    Retry,
    State,
)
from wastestream.problems import ImageGoneError, QueueFullError


def test_an_image_is_classified_in_one_call(server: Server, connect: Connect) -> None:
    """The upload itself waits for the result."""
    job = connect(server.url).classify(IMAGE)
    assert job.prediction == Prediction("biodegradable", 0.9, review=False, model="1.0+0123456789ab")
    assert job.settled_at is not None
    assert (job.settled_at - job.accepted_at).total_seconds() == 0.04
    assert [call for call, _, _ in server.calls] == ["POST /v1/images?wait=20.000"]


def test_an_upload_and_its_result_later(server: Server, connect: Connect) -> None:
    """The job has its place in the queue; `wait` takes the job or its id."""
    client = connect(server.url, key="ws_key", camera="T\u00fcr 7")
    job = client.upload(Image(IMAGE, captured_at=datetime(2026, 1, 31, tzinfo=timezone.utc), max_age=60))
    assert (job.state, job.settled, job.queue) == ("queued", False, Place(3, None))
    assert client.wait(job).settled
    assert client.wait(job.id).settled
    ((_, header, body),) = server.uploads()
    assert body == IMAGE
    assert header["Authorization"] == "Bearer ws_key"
    assert header["User-Agent"].startswith("wastestream-client/")
    assert header["X-Camera-Id"] == "T%C3%BCr 7"
    assert header["X-Captured-At"] == "2026-01-31T00:00:00+00:00"
    assert header["X-Max-Age"] == "60.000"


def test_a_key_of_the_callers_own(server: Server, connect: Connect) -> None:
    """Another call with it is the same job; without one each call is a job."""
    client = connect(server.url)
    mine = Image(IMAGE, idempotency_key="mine")
    assert client.upload(mine).id == client.upload(mine).id
    assert client.upload(IMAGE).id != client.upload(IMAGE).id


def test_a_job_that_does_not_settle_in_time(server: Server, connect: Connect) -> None:
    """It is told, with the job, which goes on."""
    server.settles = False
    client = connect(server.url)
    with pytest.raises(NotSettledError, match=r"has not settled in 0.3 s") as caught:
        client.classify(IMAGE, timeout=0.3)
    with pytest.raises(NotSettledError):
        client.wait(caught.value.job, timeout=0)


def test_a_queue_is_read_page_by_page(server: Server, connect: Connect) -> None:
    """`jobs` is one iterator; filters go with each page."""
    server.accept("key", 5)
    since, until = date(2026, 1, 31), datetime(2026, 2, 1, tzinfo=timezone.utc)
    states: list[State] = ["failed", "expired"]
    jobs = list(connect(server.url).jobs(state=states, camera="a b", since=since, until=until))
    assert [job.id for job in jobs] == list(server.jobs)
    pages = [parse_qs(urlsplit(call.split()[1]).query) for call, _, _ in server.calls]
    assert [page.pop("after", None) for page in pages] == [None, ["2"], ["4"]]
    assert pages == [pages[0]] * 3
    assert pages[0]["state"] == ["failed,expired"]
    assert pages[0]["camera"] == ["a b"]
    assert (pages[0]["from"], pages[0]["to"]) == (["2026-01-31"], ["2026-02-01T00:00:00+00:00"])


def test_many_jobs_are_asked_for_at_a_time(server: Server, connect: Connect) -> None:
    """More than one call of the server takes; the unknown ones are named."""
    ids = [job["id"] for job in server.accept("key", 1500)]
    jobs, unknown = connect(server.url).query([*ids, "none"])
    assert [job.id for job in jobs] == ids
    assert unknown == ["none"]
    assert len(server.calls) == 2


def test_cancelling_and_repeating(server: Server, connect: Connect) -> None:
    """A job is cancelled; a repeated one names the old one, and is made once."""
    client = connect(server.url)
    job = client.upload(IMAGE)
    assert client.cancel(job).state == "cancelled"
    new = client.retry(job.id)
    assert (new.retry_of, new.id == job.id) == (job.id, False)
    assert client.retry(job) == new
    assert client.job(job.id).id == job.id


def test_repeating_all_jobs_of_a_list(server: Server, connect: Connect) -> None:
    """Page by page, over a full queue; each has its new job, or the error of its class."""
    ids = [job["id"] for job in server.accept("key", 5)]
    server.gone, server.faults = {ids[3]}, [(429, {"Retry-After": "0"})]
    client = connect(server.url)
    retried = list(client.retry_all(camera="belt", since=date(2026, 1, 31)))
    assert [each.old_id for each in retried] == ids
    assert [each.job.retry_of for each in retried if each.job] == [*ids[:3], ids[4]]
    assert [type(each.error) for each in retried if each.error] == [ImageGoneError]
    bodies = [json.loads(body) for _, _, body in server.calls]
    selection = {"states": ["failed", "expired"], "camera": "belt", "from": "2026-01-31"}
    assert bodies == [selection, selection, {**selection, "after": "2"}, {**selection, "after": "4"}]
    assert [each.job for each in client.retry_all(state="failed")] == [each.job for each in retried]


def test_the_ledger(server: Server, connect: Connect) -> None:
    """Rows, their sum, and times with a zone."""
    ledger = connect(server.url).ledger(camera="belt", since=date(2026, 1, 31))
    assert ledger.balanced
    assert ledger.system is None
    assert ledger.rows[0].counts == ledger.sum
    assert ledger.rows[0].hour == datetime(2026, 1, 31, 7, tzinfo=timezone.utc)
    assert server.calls[0][0] == "GET /v1/ledger?camera=belt&from=2026-01-31"


def test_a_rejection_has_the_class_of_its_type(server: Server, connect: Connect) -> None:
    """With everything that the server said; it survives a process pool."""
    server.problem = {
        "type": "/problems/queue-full",
        "title": "Queue full",
        "status": 429,
        "detail": "Full; come back.",
        "request_id": "8c1f",
    }
    server.faults = [(429, {"Retry-After": "1"})]
    with pytest.raises(GaveUpError) as caught:
        connect(server.url, retry=Retry(0, 0)).upload(IMAGE)
    error = caught.value.__cause__
    assert isinstance(error, QueueFullError)
    assert (error.status, error.title, error.request_id) == (429, "Queue full", "8c1f")
    assert str(pickle.loads(pickle.dumps(error))) == "Full; come back."  # noqa: S301 - our own


def test_an_unknown_type_is_a_rejection_all_the_same(server: Server, connect: Connect) -> None:
    """A newer server may have more types; the status tells those of the key."""
    server.problem = {"type": "/problems/full-moon"}
    for status, error in ((409, ApiError), (403, KeyRejectedError)):
        server.faults = [(status, {})]
        with pytest.raises(error) as caught:
            connect(server.url).upload(IMAGE)
        assert (type(caught.value), caught.value.status) == (error, status)


def test_a_time_to_come_back_may_be_a_date(server: Server, connect: Connect) -> None:
    """As gateways write it; one that is past, or nonsense, is no reason to wait."""
    for written in ("Sat, 31 Jan 2026 08:15:00 GMT", "soon"):
        server.faults = [(503, {"Retry-After": written})]
        assert connect(server.url).upload(IMAGE).id


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"url": "somewhere"}, "use an address like http"),
        ({"url": "http://127.0.0.1:99999"}, "use an address like http"),
        ({"url": "http://exa mple"}, "use an address like http"),
        ({"url": "http://host.test", "key": "a\nb"}, "An API key is one line"),
    ],
)
def test_a_client_that_cannot_work_is_not_made(
    connect: Connect, options: dict[str, str], sentence: str
) -> None:
    """Nothing was sent when it is told."""
    with pytest.raises(ValueError, match=sentence):
        connect(**options)


def test_a_time_needs_a_zone(server: Server, connect: Connect) -> None:
    """Of a list as of an image."""
    with pytest.raises(ValueError, match="has no zone"):
        connect(server.url).ledger(since=datetime(2026, 1, 31))  # noqa: DTZ001 - the mistake
    with pytest.raises(ValueError, match="has no zone"):
        Image(IMAGE, captured_at=datetime(2026, 1, 31))  # noqa: DTZ001 - the mistake
