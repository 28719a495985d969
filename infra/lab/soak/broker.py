"""An MQTT broker during a soak, and a subscriber to it.

The subscriber has a session that the broker writes to its disk once, with the subscription: a broker that was
killed knows it when it is back, so what is published before the subscriber has connected again waits for it.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from signal import SIGUSR1
from typing import Any, Final, Self

from paho.mqtt.client import Client, ConnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from infra.lab.soak.deliveries import Deliveries
from infra.lab.stack import HOST, wait_for
from infra.local.errors import StackError
from infra.local.guard import Guard
from infra.local.ports import free_ports

SITE: Final = "soak"
"""Name of the installation in topics (`WASTESTREAM_SITE`)."""

_SECONDS: Final = 20.0  # to start, and to connect
_DATABASE: Final = "mosquitto.db"


def mosquitto() -> str | None:
    """Return the path of the broker's program; None if it is not installed."""
    return shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")


class Broker:
    """Mosquitto in a folder and on a port of its own; a context manager that starts and stops it.

    Args:
        program: path of Mosquitto.
        folder: to create.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self._port = free_ports(1)
        self._folder = folder
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._guard: Guard | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its URL (`WASTESTREAM_MQTT_URL`)."""
        return f"mqtt://{HOST}:{self._port}"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        lines = (
            f"listener {self._port} {HOST}",
            "allow_anonymous true",
            "user root",  # if it is started by root, so that it can write to the folder
            "persistence true",
            f"persistence_location {self._folder}/",
            # By default it drops what is beyond 1,000 waiting messages, though it has acknowledged them.
            "max_inflight_messages 0",
            "max_queued_messages 0",
        )
        (self._folder / "mosquitto.conf").write_text("\n".join([*lines, ""]), encoding="utf-8")
        self._guard = Guard()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._guard is not None:
            self._guard.close()

    def start(self) -> None:
        """Start it, and wait until it answers.

        Raises:
            StackError: it does not.
        """
        log = (self._folder / "mosquitto.log").open("ab")
        with log:
            self._process = subprocess.Popen(  # noqa: S603 - a program that the caller has found
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        if self._guard is not None:
            self._guard.watch(self._process.pid)
        if not wait_for(self._answers, _SECONDS):
            raise StackError(f"The MQTT broker did not start: {self._folder / 'mosquitto.log'}")

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            if self._guard is not None:
                self._guard.forget(self._process.pid)
            self._process = None

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self._port), 1).close()
        except OSError:
            return False
        return True

    @contextmanager
    def subscribing(self) -> Iterator[Subscriber]:
        """Subscribe to all that the site publishes."""
        subscriber = Subscriber(self._port)
        try:
            if not wait_for(subscriber.subscribed.is_set, _SECONDS):
                raise StackError("The MQTT broker accepted no subscription.")
            self._write_session()
            yield subscriber
        finally:
            subscriber.close()

    def _write_session(self) -> None:
        if self._process is not None:
            self._process.send_signal(SIGUSR1)
        wait_for((self._folder / _DATABASE).exists, _SECONDS)


class Subscriber:
    """Receives what the site publishes, whatever happens to the broker.

    Attributes:
        deliveries: of results.
        states: id in the last retained message of each camera.
        status: last retained status of the site.
        subscribed: whether the broker has accepted the subscription.
    """

    def __init__(self, port: int) -> None:
        self.deliveries = Deliveries()
        self.states: dict[str, str] = {}
        self.status = ""
        self.subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id="subscriber", clean_session=False)
        self._client.on_connect, self._client.on_message = self._on_connect, self._on_message
        self._client.on_subscribe = lambda *_: self.subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        self._client.connect(HOST, port)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    def _on_connect(
        self, client: Client, _data: Any, _flags: ConnectFlags, _reason: ReasonCode, _more: Properties | None
    ) -> None:
        client.subscribe(f"wastestream/{SITE}/#", qos=1)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        *_, camera, kind = message.topic.split("/")
        if kind == "result":
            self.deliveries.note([json.loads(message.payload)["id"]])
        elif kind == "state":
            self.states[camera] = json.loads(message.payload)["id"]
        else:
            self.status = message.payload.decode()
