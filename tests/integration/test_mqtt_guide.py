"""The process of the sinks in front of a real Mosquitto, and docs/how-to/publish-by-mqtt.md as it stands."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import playwright
import pytest
import yaml
from jinja2 import Environment

from core.jobs import JobState
from core.redis.job_store import JobStore
from core.settings import Settings
from tests.conftest import environment_of
from tests.integration.test_mqtt import StartBroker, Subscribe, broker, pytestmark, settle, subscribe
from tests.support.servers import REPOSITORY, Server, wait_until

__all__ = ["broker", "pytestmark", "subscribe"]  # fixtures, and when to skip

GUIDE = (REPOSITORY / "docs" / "how-to" / "publish-by-mqtt.md").read_text(encoding="utf-8")
HOST = "192.168.1.20"  # of the guide's broker
NODE = shutil.which("node") or str(Path(playwright.__file__).parent / "driver" / "node")

Sinks = Callable[..., Server]


def block(language: str, number: int = 0) -> str:
    """Return a block of the guide's code."""
    blocks: list[str] = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return blocks[number]


@pytest.fixture
def sinks(settings: Settings, tmp_path: Path) -> Iterator[Sinks]:
    """A function that starts a process of sinks with the guide's settings, for a broker on a port."""
    started: list[Server] = []

    def start(port: int) -> Server:
        line = block("sh").splitlines()[0].replace(f"{HOST}:1883", f"127.0.0.1:{port}")
        words = dict(word.split("=", 1) for word in shlex.split(line)[1:])
        variables = {**environment_of(settings), "WASTESTREAM_ARCHIVE": "off", **words}
        server = Server([sys.executable, "-m", "worker.sinks"], tmp_path / "sinks.log", variables)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def test_the_process_publishes_and_goes_on_after_kills(
    jobs: JobStore, broker: StartBroker, subscribe: Subscribe, sinks: Sinks
) -> None:
    """Its own and the broker's: the site goes offline and comes back, each result arrives, in order."""
    server = broker()
    assert server.port is not None
    listener, status = subscribe(server.port), "wastestream/plant-2/status"
    process = sinks(server.port)
    first = settle(jobs, 3)
    wait_until(lambda: listener.ids("wastestream/plant-2/belt/result") == first, "the first results")
    process.kill()
    wait_until(lambda: listener.payloads(status)[-1] == "offline", "the last will")
    second = settle(jobs, 700)
    process = sinks(server.port)
    ids: list[str] = []

    def received() -> list[str]:
        ids[:] = dict.fromkeys(listener.ids("wastestream/plant-2/belt/result"))
        return ids

    wait_until(lambda: received() == [*first, *second], "the results of meanwhile", 60)
    server.kill()
    third = settle(jobs, 5)
    server.start()
    again = subscribe(server.port)
    wait_until(lambda: again.ids("wastestream/plant-2/belt/result")[-5:] == third, "the latest results", 60)
    assert process.kill(signal.SIGTERM) == 0
    wait_until(lambda: again.payloads(status)[-1] == "offline", "the end")


def test_the_guide(jobs: JobStore, broker: StartBroker, sinks: Sinks, tmp_path: Path) -> None:
    """What `mosquitto_sub` prints, Node-RED's function lets through, and Home Assistant's templates show."""
    passwords, rights = tmp_path / "passwords", tmp_path / "rights"
    subprocess.run(
        ["mosquitto_passwd", "-c", "-b", passwords, "wastestream", "secret"], check=True, capture_output=True
    )
    rights.write_text("user wastestream\ntopic readwrite wastestream/plant-2/#\n")
    port = broker("allow_anonymous false", f"password_file {passwords}", f"acl_file {rights}").port
    assert port is not None
    command = shlex.split(block("sh", 1).replace(f"-h {HOST}", f"-h 127.0.0.1 -p {port} -C 5 -W 60"))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as subscriber:
        good, bad = settle(jobs, 1, "belt-1"), settle(jobs, 1, "belt-2", JobState.FAILED)
        sinks(port)
        printed, _ = subscriber.communicate(timeout=90)
    assert subscriber.returncode == 0, printed
    messages = [line.split(" ", 1) for line in printed.splitlines()]
    topics = {topic.removeprefix("wastestream/plant-2/"): text for topic, text in messages}
    assert set(topics) == {"status", *(f"belt-{n}/{kind}" for n in (1, 2) for kind in ("result", "state"))}
    results = [json.loads(topics[f"belt-{n}/result"]) for n in (1, 2)]
    assert [result["id"] for result in results] == [*good, *bad]
    assert [node_red(result) for result in results] == [None, None]
    review = {**results[0], "prediction": {**results[0]["prediction"], "review": True}}
    assert node_red(review) == "belt-1"
    assert home_assistant("sensor", topics) == ("biodegradable", True)
    assert home_assistant("binary_sensor", topics) == ("OFF", None)


def node_red(payload: dict[str, Any]) -> str | None:
    """Return the topic of the message that the guide's function returns; None if it returns none."""
    text = f"const f = (msg) => {{ {block('js')} }}; const out = f({{payload: {json.dumps(payload)}}});"
    done = subprocess.run(
        [NODE, "-e", f"{text} console.log(JSON.stringify(out ? out.topic : null));"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    topic: str | None = json.loads(done.stdout)
    return topic


def home_assistant(kind: str, topics: dict[str, str]) -> tuple[str, bool | None]:
    """Return the state of the guide's entity of a kind, and whether it is available, if it says."""
    (entity,) = yaml.safe_load(block("yaml"))["mqtt"][kind]
    message = topics[entity["state_topic"].removeprefix("wastestream/plant-2/")]
    template = Environment(autoescape=False).from_string(entity["value_template"])  # noqa: S701 - no HTML
    available = None
    if "availability_topic" in entity:
        assert entity["availability_topic"] == "wastestream/plant-2/status"
        available = topics["status"] == entity["payload_available"]
    return template.render(value_json=json.loads(message)), available
