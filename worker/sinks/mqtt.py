"""Sink that publishes results to an MQTT broker."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessageInfo
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from core.job_document import job_document
from core.jobs import Job
from core.redis.feed import Cursor
from core.redis.recent_results import RecentResults
from core.redis.results import Result, unbroken
from core.redis.sinks import MQTT
from worker.sinks.runner import GATHER_SECONDS, DeliveryError

_BATCH: Final = 500  # results in one delivery
_CONNECT_SECONDS: Final = 10
_ACK_SECONDS: Final = 30  # for a whole batch
_KEEPALIVE: Final = 30
_QOS: Final = 1
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}


class MqttSink:
    """Publishes each result, the last one of each camera retained, and whether this site is online.

    MQTT 5, because brokers of version 3.1.1 acknowledge what they reject. The client's id is that of the
    site: a broker closes the connection of a killed process, and publishes its last will, before it accepts
    the next.

    Args:
        recent: the results.
        url: `mqtt://` or `mqtts://`, with user and password if any.
        site: name of this installation in topics.
    """

    name = MQTT
    gather = GATHER_SECONDS
    max_pause = 10.0  # A broker is near, and a plant waits for its results.

    def __init__(self, recent: RecentResults, *, url: str, site: str) -> None:
        self._recent = recent
        self._url = url
        self._root = f"wastestream/{site}"
        self._site = site
        self._connection: _Connection | None = None

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Publish results; return when the broker has acknowledged them. See `Sink.deliver`."""
        if self._connection is not None and not self._connection.is_open:
            self.close()  # The broker has gone, maybe with the retained status: begin anew.
        try:
            if self._connection is None:
                self._connection = _Connection(self._url, f"wastestream-{self._site}", f"{self._root}/status")
            results = unbroken(self._recent.read(cursor, _BATCH))
            if not results:
                return None
            self._connection.publish(self._messages(results))
        except DeliveryError:
            self.close()
            raise
        return results[-1].cursor

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _messages(self, results: Sequence[Result]) -> list[tuple[str, str, bool]]:
        """Return topic, payload, and whether it is retained, of each message."""
        jobs = [(result.job, result.json) for result in results if result.job is not None]
        messages = [(f"{self._root}/{job.camera}/result", text, False) for job, text in jobs]
        last = {job.camera: job for job, _ in jobs}
        return messages + [
            (f"{self._root}/{camera}/state", _state(job), True) for camera, job in last.items()
        ]


def _state(job: Job) -> str:
    """Return the retained message of a camera whose last result is a job."""
    document = job_document(job)
    prediction = document["prediction"] or {"label": None, "probability": None, "review": None}
    state = {
        "state": document["state"],
        **{name: prediction[name] for name in ("label", "probability", "review")},
        "settled_at": document["settled_at"],
        "id": document["id"],
    }
    return json.dumps(state, ensure_ascii=False)


class _Connection:
    """A connection to the broker; once it is lost, it stays so.

    Args:
        url: the broker's.
        client_id: id of the session.
        status: topic that holds `online` or `offline`, retained.

    Raises:
        DeliveryError: the broker cannot be reached, or rejects the client.
    """

    def __init__(self, url: str, client_id: str, status: str) -> None:
        parts = urlsplit(url)
        self._status = status
        self._answered = threading.Event()
        self._rejection: str | None = None
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        client = self._client
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        client.on_disconnect = self._on_disconnect
        if parts.username:
            client.username_pw_set(unquote(parts.username), unquote(parts.password or ""))
        if parts.scheme == "mqtts":
            client.tls_set_context(ssl.create_default_context())
        client.connect_timeout = _CONNECT_SECONDS
        client.will_set(status, "offline", qos=_QOS, retain=True)
        address = f"{parts.hostname}:{parts.port or _PORTS[parts.scheme]}"
        try:
            client.connect(
                parts.hostname or "", parts.port or _PORTS[parts.scheme], _KEEPALIVE, clean_start=True
            )
        except (OSError, ValueError) as error:
            raise DeliveryError(f"The MQTT broker {address} cannot be reached ({error}).") from error
        client.loop_start()
        if not self._answered.wait(_CONNECT_SECONDS) or self._rejection is not None or not self.is_open:
            self.close()
            reason = self._rejection or "no answer"
            raise DeliveryError(
                f"The MQTT broker {address} rejects the connection ({reason}); check user and password in "
                "WASTESTREAM_MQTT_URL."
            )
        self.publish([(status, "online", True)])

    @property
    def is_open(self) -> bool:
        """Whether the broker is connected."""
        return self._client.is_connected()

    def publish(self, messages: Sequence[tuple[str, str, bool]]) -> None:
        """Publish messages, given as topic, payload, and whether they are retained, and await their PUBACKs.

        Raises:
            DeliveryError: some may not have been published.
        """
        until = time.monotonic() + _ACK_SECONDS
        sent = [self._send(*message) for message in messages]
        for info in sent:
            self._await(info, until)
        if self._rejection is not None:
            raise DeliveryError(
                f"The MQTT broker rejects messages ({self._rejection}); let the user of WASTESTREAM_MQTT_URL "
                f"publish to {self._status.rpartition('/')[0]}/#."
            )

    def close(self) -> None:
        """Say `offline` and disconnect."""
        if self.is_open:
            self._client.publish(self._status, "offline", qos=_QOS, retain=True).wait_for_publish(1)
        self._client.disconnect()
        self._client.loop_stop()

    def _send(self, topic: str, payload: str, retained: bool) -> MQTTMessageInfo:  # noqa: FBT001
        return self._client.publish(topic, payload.encode(), qos=_QOS, retain=retained)

    def _await(self, info: MQTTMessageInfo, until: float) -> None:
        """Await a PUBACK until a time of the monotonic clock."""
        while not info.is_published():
            left = until - time.monotonic()
            if left <= 0:
                raise DeliveryError(
                    f"The MQTT broker did not acknowledge all messages within {_ACK_SECONDS} seconds."
                )
            if info.rc is not MQTTErrorCode.MQTT_ERR_SUCCESS or not self.is_open:
                raise DeliveryError("The MQTT broker has closed the connection.")
            info.wait_for_publish(min(left, 1))

    def _on_connect(
        self, _client: Client, _data: Any, _flags: ConnectFlags, reason: ReasonCode, _more: Properties | None
    ) -> None:
        if reason.is_failure:
            self._rejection = str(reason)
        self._answered.set()

    def _on_publish(
        self, _client: Client, _data: Any, _message: int, reason: ReasonCode, _more: Properties
    ) -> None:
        if reason.is_failure:
            self._rejection = str(reason)

    def _on_disconnect(
        self,
        _client: Client,
        _data: Any,
        _flags: DisconnectFlags,
        _reason: ReasonCode,
        _more: Properties | None,
    ) -> None:
        self._answered.set()
