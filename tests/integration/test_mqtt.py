"""Results over MQTT, on a real Mosquitto: each at least once, whatever happens to the broker."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from core.errors import CursorExpiredError
from core.ids import new_job_id
from core.job_document import job_document
from core.jobs import Job, JobState, Outcome, Prediction
from core.redis import keys
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from tests.support.feed import recent_of
from tests.support.servers import Server, free_port, wait_until
from worker.sinks.mqtt import MqttSink
from worker.sinks.runner import DeliveryError

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
GOOD = Prediction("biodegradable", 0.9, review=False)
BEGIN = Cursor(round(time.time() - 3600) * 1000)

pytestmark = pytest.mark.skipif(
    (MOSQUITTO is None or shutil.which("mosquitto_sub") is None) and "CI" not in os.environ,
    reason="mosquitto or mosquitto-clients is not installed",
)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a broker with more lines of configuration."""
    started: list[Server] = []

    def start(*lines: str) -> Server:
        port = free_port()
        config = tmp_path / f"{port}.conf"
        anonymous = [] if any("allow_anonymous" in line for line in lines) else ["allow_anonymous true"]
        config.write_text("\n".join([f"listener {port} 127.0.0.1", "user root", *anonymous, *lines, ""]))
        server = Server([str(MOSQUITTO), "-c", str(config)], tmp_path / f"{port}.log", port=port)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


class Subscriber:
    """Receives everything below `wastestream/`."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, Any, bool]] = []
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._receive
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.subscribe("wastestream/#", qos=1)
        self._client.loop_start()
        assert self._subscribed.wait(20)

    def payloads(self, topic: str) -> list[Any]:
        """Return the messages of a topic."""
        return [payload for name, payload, _ in self.messages if name == topic]

    def ids(self, topic: str = "wastestream/plant/belt/result") -> list[str]:
        """Return the ids of the results of a topic."""
        return [payload["id"] for payload in self.payloads(topic)]

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _receive(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        text = message.payload.decode()
        payload = json.loads(text) if text.startswith("{") else text
        self.messages.append((message.topic, payload, message.retain))


@pytest.fixture
def subscribe() -> Iterator[Callable[[int], Subscriber]]:
    """A function that subscribes to a broker."""
    made: list[Subscriber] = []

    def make(port: int) -> Subscriber:
        made.append(Subscriber(port))
        return made[-1]

    yield make
    for subscriber in made:
        subscriber.close()


@pytest.fixture
def sink(jobs: JobStore) -> Iterator[Callable[..., MqttSink]]:
    """A function that makes a sink."""
    made: list[MqttSink] = []

    def make(url: str) -> MqttSink:
        made.append(MqttSink(recent_of(jobs), url=url, site="plant"))
        return made[-1]

    yield make
    for each in made:
        each.close()


StartBroker = Callable[..., Server]
Subscribe = Callable[[int], Subscriber]
MakeSink = Callable[[str], MqttSink]


def settle(
    jobs: JobStore, count: int, camera: str = "belt", state: JobState = JobState.CLASSIFIED
) -> list[str]:
    """Settle jobs; return their ids."""
    new = [Job(new_job_id(), camera, "jpeg", 100) for _ in range(count)]
    ids = jobs.accept(new, "single", "test.queue", ["message"] * count).ids
    good = state is JobState.CLASSIFIED
    jobs.settle([Outcome(i, state, GOOD if good else None, None if good else "x") for i in ids], "m")
    return ids


def test_results_states_and_status(
    jobs: JobStore,
    broker: StartBroker,
    sink: MakeSink,
    subscribe: Subscribe,
) -> None:
    """Each result once, in order; the last one of each camera is retained; a lost site is `offline`."""
    port = broker().port
    assert port is not None
    listener, publisher = subscribe(port), sink(f"mqtt://127.0.0.1:{port}")
    belt, line = settle(jobs, 30), settle(jobs, 2, "Bänd 2 (links)", JobState.FAILED)
    cursor = publisher.deliver(BEGIN)
    assert cursor is not None
    assert publisher.deliver(cursor) is None
    topic = "wastestream/plant/Bänd 2 (links)"
    wait_until(lambda: len(listener.messages) == 35, "all messages")
    assert (listener.ids(), listener.ids(f"{topic}/result")) == (belt, line)
    job = jobs.read(belt[0])
    assert job is not None
    assert listener.payloads("wastestream/plant/belt/result")[0] == job_document(job)
    late = subscribe(port)
    wait_until(lambda: len(late.messages) == 3, "the retained messages")
    assert all(retained for _, _, retained in late.messages)
    assert late.payloads("wastestream/plant/status") == ["online"]
    [state] = late.payloads("wastestream/plant/belt/state")
    assert (state["id"], state["label"], state["review"]) == (belt[-1], "biodegradable", False)
    assert late.payloads(f"{topic}/state")[0]["label"] is None
    publisher._connection._client.socket().close()  # type: ignore[union-attr]
    wait_until(lambda: late.payloads("wastestream/plant/status")[-1] == "offline", "the last will")
    assert publisher.deliver(cursor) is None  # It connects again, although there is nothing to publish.
    publisher.close()
    status = ["online", "offline", "online", "offline"]
    wait_until(lambda: late.payloads("wastestream/plant/status") == status, "the end")


def test_a_record_that_has_expired_is_a_gap(
    jobs: JobStore, broker: StartBroker, sink: MakeSink, subscribe: Subscribe
) -> None:
    """What is before it is published first."""
    port = broker().port
    assert port is not None
    listener, publisher = subscribe(port), sink(f"mqtt://127.0.0.1:{port}")
    ids = settle(jobs, 3)
    jobs.client.delete(keys.job(ids[1]))
    cursor = publisher.deliver(BEGIN)
    assert cursor is not None
    with pytest.raises(CursorExpiredError) as gap:
        publisher.deliver(cursor)
    after = Cursor.parse(gap.value.oldest)
    assert after is not None
    assert publisher.deliver(after) is not None
    wait_until(lambda: listener.ids() == [ids[0], ids[2]], "both results")


def test_a_broker_that_is_killed_loses_nothing(
    jobs: JobStore,
    broker: StartBroker,
    sink: MakeSink,
    subscribe: Subscribe,
) -> None:
    """While it is away the cursor stays; the sentence names the broker; an idle sink connects again too."""
    server = broker()
    publisher = sink(f"mqtt://127.0.0.1:{server.port}")
    cursor = publisher.deliver(BEGIN) or BEGIN
    first = settle(jobs, 3)
    cursor = publisher.deliver(cursor) or cursor
    server.kill()
    second = settle(jobs, 600)
    for _ in range(2):
        with pytest.raises(DeliveryError, match=rf"127\.0\.0\.1:{server.port} cannot be reached|closed"):
            publisher.deliver(cursor)
    server.start()
    assert server.port is not None
    listener = subscribe(server.port)
    while after := publisher.deliver(cursor):
        cursor = after
    wait_until(lambda: set(listener.ids()) >= set(second), "the results of meanwhile")
    assert listener.ids() == second
    assert not set(first) & set(second)


def test_a_broker_that_rejects(jobs: JobStore, broker: StartBroker, sink: MakeSink, tmp_path: Path) -> None:
    """Wrong credentials and missing rights are named; nothing counts as published."""
    passwords, rights = tmp_path / "passwords", tmp_path / "rights"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", passwords, "us/er", "p@ss"], check=True, capture_output=True
    )
    rights.write_text("user us/er\ntopic write wastestream/plant/status\n")
    port = broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}").port
    settle(jobs, 1)
    with pytest.raises(DeliveryError, match=r"rejects the connection \(Not authorized\); check"):
        sink(f"mqtt://127.0.0.1:{port}").deliver(BEGIN)
    with pytest.raises(DeliveryError, match=r"messages \(Not authorized\); let .* to wastestream/plant/#"):
        sink(f"mqtt://us%2Fer:p%40ss@127.0.0.1:{port}").deliver(BEGIN)


def test_a_broker_that_acknowledges_slowly(
    jobs: JobStore, broker: StartBroker, sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch has one deadline, however steadily its messages are acknowledged."""
    monkeypatch.setattr("worker.sinks.mqtt._ACK_SECONDS", 2)
    settle(jobs, 40)
    port = broker().port
    assert port is not None
    with slowly(port) as slow, pytest.raises(DeliveryError, match="all messages within 2 seconds"):
        sink(f"mqtt://127.0.0.1:{slow}").deliver(BEGIN)


@contextmanager
def slowly(port: int) -> Iterator[int]:
    """Give a port at which a broker is reached, whose packets of 4 bytes, PUBACKs, come one in 0.25 s."""

    def back(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := server.recv(4096):
                for packet in [piece[at : at + 4] for at in range(0, len(piece), 4)]:
                    client.sendall(packet)
                    time.sleep(0.25 if acknowledging.is_set() else 0)
                acknowledging.set()  # after the CONNACK

    def forth(server: socket.socket, client: socket.socket) -> None:
        with suppress(OSError):
            while piece := client.recv(4096):
                server.sendall(piece)

    acknowledging = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            client, _ = listener.accept()
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                forwarding = threading.Thread(target=back, args=(server, client))
                forwarding.start()
                forth(server, client)
                server.shutdown(socket.SHUT_RDWR)
                forwarding.join()

        proxy = threading.Thread(target=accept)
        proxy.start()
        yield listener.getsockname()[1]
        proxy.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_tls(
    jobs: JobStore,
    broker: StartBroker,
    sink: MakeSink,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The certificate must be of an authority that the system knows.

    paho leaves the socket of a failed handshake to the garbage collector, which warns of it.
    """
    ca = trustme.CA()
    certificate = ca.issue_cert("localhost")
    certificate.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    port = broker(f"certfile {tmp_path / 'cert.pem'}", f"keyfile {tmp_path / 'key.pem'}").port
    settle(jobs, 1)
    with pytest.raises(DeliveryError, match="certificate verify failed"):
        sink(f"mqtts://localhost:{port}").deliver(BEGIN)
    monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, str(tmp_path / "ca.pem"))
    assert sink(f"mqtts://localhost:{port}").deliver(BEGIN) is not None
