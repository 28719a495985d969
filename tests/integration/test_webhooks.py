"""Webhooks on a real Redis, to real HTTP servers: signed, at least once, in order, each on its own."""

from __future__ import annotations

import ipaddress
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from core.jobs import JobState
from core.redis import keys
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.redis.webhooks import MAX_WEBHOOKS, WebhookStore
from core.settings import Settings
from tests.conftest import environment_of
from tests.integration.test_feed import HOUR_MS, accept, settle
from tests.support.feed import recent_of
from tests.support.receiver import Receiver, status
from tests.support.servers import Server, wait_until
from worker.sinks.webhook_manager import WebhookManager
from worker.sinks.webhook_sink import MAX_RESULTS

LOOPBACK = "127.0.0.0/8"


@pytest.fixture
def client(settings: Settings) -> FlaskClient:
    """The API, which lets webhooks go to loopback."""
    networks = (ipaddress.ip_network(LOOPBACK),)
    return create_app(settings.model_copy(update={"webhook_networks": networks})).test_client()


@pytest.fixture
def make_receiver(client: FlaskClient) -> Iterator[Callable[..., Receiver]]:
    """A function that starts a receiver and makes a webhook to it."""
    with ExitStack() as started:

        def make(**members: Any) -> Receiver:
            receiver = Receiver()
            started.callback(receiver.close)
            made = client.post("/v1/webhooks", json={"url": receiver.url, **members})
            assert made.status_code == 201, made.text
            receiver.secret, receiver.id = made.get_json()["secret"], made.get_json()["id"]
            return receiver

        yield make


@contextmanager
def sending(jobs: JobStore) -> Iterator[None]:
    """Run the webhooks."""
    networks = (ipaddress.ip_network(LOOPBACK),)
    manager = WebhookManager(jobs.client, recent_of(jobs), lambda: True, networks)
    manager.start()
    try:
        yield
    finally:
        manager.stop()
        manager.join()


def shown(client: FlaskClient, receiver: Receiver) -> dict[str, Any]:
    """Return a webhook as the API lists it."""
    webhooks = client.get("/v1/webhooks").get_json()["webhooks"]
    return next(webhook for webhook in webhooks if webhook["id"] == receiver.id)


def test_results_arrive_signed_in_order_as_the_api_shows_them(
    client: FlaskClient, jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """In batches of up to 100, from the webhook's making on; the secret is shown once."""
    settle(jobs, accept(jobs, 3))
    receiver = make_receiver()
    ids = settle(jobs, accept(jobs, 130, "Bänd 1"))
    ids += settle(jobs, accept(jobs, 120), JobState.FAILED)
    with sending(jobs):
        wait_until(lambda: len(receiver.job_ids) >= len(ids), "the results")
        wait_until(lambda: shown(client, receiver)["behind"] == 0, "the cursor")
    assert receiver.job_ids == ids
    assert [len(delivery.job_ids) for delivery in receiver.deliveries] == [100, 100, 50]
    results = client.get("/v1/results?limit=1000").get_json()["results"][3:]
    assert [job for each in receiver.deliveries for job in each.message["data"]["results"]] == results
    first, *_, last = receiver.deliveries
    assert first.message["type"] == "results"
    assert first.message["timestamp"] == results[99]["settled_at"]
    assert first.host == f"127.0.0.1:{receiver.port}"
    assert len({delivery.id for delivery in receiver.deliveries}) == 3
    assert last.message["data"]["cursor"] == shown(client, receiver)["cursor"]
    webhook = shown(client, receiver)
    assert (webhook["state"], webhook["error"], webhook["gaps"]) == ("active", "", 0)
    assert (webhook["cameras"], webhook["states"]) == (
        ["*"],
        ["classified", "failed", "expired", "cancelled"],
    )
    assert receiver.secret not in client.get("/v1/webhooks").text


def test_a_webhook_gets_the_cameras_and_states_that_it_names(
    jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """By pattern; what it does not want is passed over without a call."""
    receiver = make_receiver(cameras=["line *", "belt"], states=["failed"])
    others = [*accept(jobs, 150, "belt-1"), *accept(jobs, 5, "line")]
    wanted = [*accept(jobs, 2, "line 7"), *accept(jobs, 1, "belt")]
    settle(jobs, [*others, wanted[0]], JobState.FAILED)
    settle(jobs, accept(jobs, 3, "line 7"))
    settle(jobs, wanted[1:], JobState.FAILED)
    with sending(jobs):
        wait_until(lambda: receiver.job_ids == wanted, "the results")
    assert len(receiver.deliveries) == 1


def test_a_failed_batch_is_sent_again_as_it_was(
    client: FlaskClient, jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """Same id, same bytes, before anything newer; the API says why meanwhile."""
    receiver = make_receiver()
    receiver.respond = status(500)
    ids = settle(jobs, accept(jobs, 2))
    with sending(jobs):
        wait_until(lambda: "answered 500" in shown(client, receiver)["error"], "the failure")
        webhook = shown(client, receiver)
        assert (webhook["state"], webhook["failing_since"] is not None) == ("active", True)
        ids += settle(jobs, accept(jobs, 2))
        wait_until(lambda: len(receiver.deliveries) > 1, "another attempt")
        receiver.respond = status(204)
        wait_until(lambda: receiver.job_ids[-4:] == ids, "all results")
        wait_until(lambda: shown(client, receiver)["failing_since"] is None, "the recovery")
        assert shown(client, receiver)["error"] == ""
    *attempts, last = receiver.deliveries
    assert len({(delivery.id, delivery.body) for delivery in attempts}) == 1
    assert (last.job_ids, last.id != attempts[0].id) == (ids[2:], True)


def test_a_slow_target_holds_nobody_up(jobs: JobStore, make_receiver: Callable[..., Receiver]) -> None:
    """Nineteen others get results, old and new, while one has not answered its first call."""
    slow, *others = [make_receiver() for _ in range(20)]
    go_on = threading.Event()

    def hang(request: Any) -> None:
        go_on.wait(60)
        status(204)(request)

    slow.respond = hang
    ids = settle(jobs, accept(jobs, 3))
    with sending(jobs):
        wait_until(lambda: bool(slow.deliveries), "the slow target's call")
        wait_until(lambda: all(other.job_ids == ids for other in others), "the others' results")
        ids += settle(jobs, accept(jobs, 3))
        wait_until(lambda: all(other.job_ids == ids for other in others), "their next results")
        assert len(slow.deliveries) == 1
        go_on.set()
        wait_until(lambda: slow.job_ids[-3:] == ids[3:], "the slow target's results")


def test_idle_webhooks_cost_redis_next_to_nothing(jobs: JobStore) -> None:
    """Fifty share one reader of the feed, which waits; and each result is read once for all."""
    for _ in range(MAX_WEBHOOKS):
        WebhookStore(jobs.client).create("http://127.0.0.1:9/", ["no camera"], [JobState.FAILED])

    def commands() -> int:
        return int(jobs.client.info("stats")["total_commands_processed"])

    feed = Feed(jobs.client)

    def have_passed() -> bool:
        cursors = jobs.client.hvals(keys.SINKS)
        return cursors == [str(feed.end())] * MAX_WEBHOOKS

    with sending(jobs):
        settle(jobs, accept(jobs, 1))
        wait_until(have_passed, "all webhooks to pass the result")
        time.sleep(1)  # Runners that have just delivered look once more.
        before, began = commands(), time.monotonic()
        time.sleep(4)
        assert commands() - before <= 10 * (time.monotonic() - began)
        reads = int(jobs.client.info("commandstats")["cmdstat_evalsha"]["calls"])
        settle(jobs, accept(jobs, 1))
        wait_until(have_passed, "all webhooks to pass the result")
        scripts = int(jobs.client.info("commandstats")["cmdstat_evalsha"]["calls"]) - reads
        assert scripts <= 3  # accepted, settled, read


def test_after_a_day_of_failures_a_webhook_is_dead_until_it_is_replayed(
    client: FlaskClient, jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """Nothing is lost meanwhile. A receiver that answers 410 is given up at once."""
    tired, gone = make_receiver(), make_receiver()
    tired.respond, gone.respond = status(503), status(410)
    jobs.client.hset(keys.WEBHOOKS_FAILING, tired.id, jobs.now_ms() - 25 * HOUR_MS)
    ids = settle(jobs, accept(jobs, 3))
    with sending(jobs):
        for receiver, says in ((tired, "answered 503"), (gone, "answered 410")):
            wait_until(lambda: shown(client, receiver)["state"] == "dead", "its end")  # noqa: B023
            assert len(receiver.deliveries) == 1
            receiver.deliveries.clear()
            receiver.respond = status(200)
            wait_until(lambda: says in shown(client, receiver)["error"], "the reason")  # noqa: B023
        ids += settle(jobs, accept(jobs, 2))
        for receiver in (tired, gone):
            assert receiver.deliveries == []
            answer = client.post(f"/v1/webhooks/{receiver.id}/replay", json={})
            assert (answer.status_code, answer.get_json()["state"]) == (202, "active")
            wait_until(lambda: receiver.job_ids == ids, "all results")  # noqa: B023
            assert shown(client, receiver)["state"] == "active"


def test_a_replay_begins_at_a_cursor_or_a_time(
    client: FlaskClient, jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """Also of results from before the webhook, and while it sends."""
    old = settle(jobs, accept(jobs, MAX_RESULTS))
    receiver = make_receiver()
    new = settle(jobs, accept(jobs, 2))
    with sending(jobs):
        wait_until(lambda: receiver.job_ids == new, "the results")
        cursor = client.get("/v1/results?limit=97").get_json()["next"]
        for where, expected in (
            ({"from": "2026-01-01"}, [*old, *new]),
            ({"after": cursor}, [*old[97:], *new]),
        ):
            receiver.deliveries.clear()
            assert client.post(f"/v1/webhooks/{receiver.id}/replay", json=where).status_code == 202
            wait_until(lambda: receiver.job_ids == expected, "the replay")  # noqa: B023
    path = f"/v1/webhooks/{receiver.id}/replay"
    gone = client.post(path, json={"after": str(Cursor(jobs.now_ms() - 169 * HOUR_MS))})
    assert (gone.status_code, gone.get_json(force=True)["type"]) == (410, "/problems/cursor-expired")
    for wrong in ({"after": 5}, {"after": "x"}, {"from": 5}, {"after": cursor, "from": "2026-01-01"}):
        assert client.post(path, json=wrong).status_code == 400
    assert client.post("/v1/webhooks/none/replay", json={}).status_code == 404
    named = client.post(path, json={"first": "2026-01-31"})  # as the code calls `from`
    assert (named.status_code, "'first' is not a member" in named.get_json(force=True)["detail"]) == (
        400,
        True,
    )


def test_a_deleted_webhook_leaves_nothing(
    client: FlaskClient, jobs: JobStore, make_receiver: Callable[..., Receiver]
) -> None:
    """Though its last delivery ends after that, and writes down how."""
    receiver, other = make_receiver(), make_receiver()
    go_on = threading.Event()

    def hang(request: Any) -> None:
        go_on.wait(60)
        status(500)(request)

    receiver.respond = hang
    ids = settle(jobs, accept(jobs, 1))
    with sending(jobs):
        wait_until(lambda: bool(receiver.deliveries), "the delivery")
        assert client.delete(f"/v1/webhooks/{receiver.id}").get_json()["url"] == receiver.url
        assert client.delete(f"/v1/webhooks/{receiver.id}").status_code == 404
        go_on.set()
        ids += settle(jobs, accept(jobs, 1))

        def clean() -> bool:
            names = [key for key in jobs.client.keys("ws:*") if jobs.client.type(key) == "hash"]
            fields = [field for key in names for field in jobs.client.hkeys(key)]
            return not any(receiver.id in field for field in fields)

        wait_until(lambda: other.job_ids == ids and clean(), "the traces to go")
        ids += settle(jobs, accept(jobs, 2))
        wait_until(lambda: other.job_ids == ids, "the other's results")
        assert clean()
        assert {delivery.id for delivery in receiver.deliveries} == {receiver.deliveries[0].id}
    assert [webhook["id"] for webhook in client.get("/v1/webhooks").get_json()["webhooks"]] == [other.id]


def test_a_killed_process_delivers_again_and_loses_nothing(
    settings: Settings, jobs: JobStore, make_receiver: Callable[..., Receiver], tmp_path: Path
) -> None:
    """At least once, in the order of the feed, also what settled while none ran."""
    receiver = make_receiver()
    calls = iter(range(1000))
    process = Server(
        [sys.executable, "-m", "worker.sinks"],
        tmp_path / "log",
        environment=environment_of(settings) | {"WASTESTREAM_WEBHOOK_NETWORKS": LOOPBACK},
    )

    def die_at_the_third(request: Any) -> None:
        if next(calls) == 2:
            process.kill()
            return
        status(204)(request)

    receiver.respond = die_at_the_third
    ids = settle(jobs, accept(jobs, 4 * MAX_RESULTS))
    process.start()
    try:
        wait_until(lambda: process.process is not None and process.process.poll() is not None, "the kill")
        ids += settle(jobs, accept(jobs, 50))
        jobs.client.delete(keys.leader("sinks"))  # or wait for its end
        process.start()
        wait_until(lambda: receiver.job_ids[-1:] == ids[-1:], "the last result")
        assert process.kill(signal.SIGTERM) == 0
    finally:
        process.stop()
    assert list(dict.fromkeys(receiver.job_ids)) == ids
    assert receiver.deliveries[2].body == receiver.deliveries[3].body
    assert receiver.deliveries[2].id == receiver.deliveries[3].id


@pytest.mark.parametrize(
    ("members", "code", "says"),
    [
        ({}, 400, "'url' is missing"),
        ({"url": "ftp://example.com/"}, 400, "is not an http or https URL"),
        ({"url": "http://user:secret@example.com/"}, 400, "holds a user name"),
        ({"url": "http://example.com/#part"}, 400, "has a fragment"),
        ({"url": "http://exämple.com/"}, 400, "no URL has"),
        ({"url": "http://127.0.0.1/", "cameras": ["../x"]}, 400, "cannot be a pattern of cameras"),
        ({"url": "http://127.0.0.1/", "cameras": []}, 400, "cameras"),
        ({"url": "http://127.0.0.1/", "states": ["queued"]}, 400, "is not a terminal state"),
        ({"url": "http://127.0.0.1/", "states": [["failed"]]}, 400, "is not a terminal state"),
        ({"url": "http://127.0.0.1/", "secret": "x"}, 400, "'secret' is not a member"),
        (
            {"url": "http://169.254.169.254/latest"},
            422,
            "169.254.169.254, an address that webhooks are never",
        ),
        ({"url": "http://[::ffff:169.254.1.1]/"}, 422, "never sent to"),
        ({"url": "http://10.1.2.3/"}, 422, "WASTESTREAM_WEBHOOK_NETWORKS"),
        ({"url": "http://nowhere.invalid/"}, 422, "nowhere.invalid, which has no address"),
    ],
)
def test_wrong_webhooks_are_named(client: FlaskClient, members: Any, code: int, says: str) -> None:
    """400 or 422 with a sentence, and no webhook is made."""
    answer = client.post("/v1/webhooks", json=members)
    assert answer.status_code == code
    assert says in answer.get_json(force=True)["detail"]
    assert "secret@" not in answer.text
    assert client.get("/v1/webhooks").get_json() == {"webhooks": []}


def test_webhooks_are_bounded(client: FlaskClient, jobs: JobStore) -> None:
    """Each has a thread of its own."""
    for _ in range(MAX_WEBHOOKS):
        WebhookStore(jobs.client).create("http://127.0.0.1/", ["*"], [JobState.FAILED])
    answer = client.post("/v1/webhooks", json={"url": "http://127.0.0.1/"})
    assert answer.status_code == 422
    assert answer.get_json(force=True)["type"] == "/problems/too-many-webhooks"
