"""Messages and their jobs. Messages are acknowledged in bulk, when all their jobs are done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from kombu.transport.virtual import QoS

from core.ids import is_job_id
from core.lanes import LANES
from core.messages import COSTS, EXPIRES, QUEUES, TRACES
from core.shards import job_id_of

MAX_RETRIES: Final = 6
"""Retries after which a job settles `failed`: about a minute, with back-off of 1, 2, 4, ... seconds."""

_LANE_OF: Final = {queue: lane for lane, queue in QUEUES.items()}


@dataclass(frozen=True, slots=True)
class Item:
    """One job, as the parent passes it to the child.

    Attributes:
        key: of the image.
        isolated: delivered before, so it runs alone and its starts are counted.
        cancelled: revoked before it started, so it only needs to be settled.
        retries_exhausted: storage did not serve its image in any try, so it settles `failed`.
        expires_ms: when its image becomes too old to be classified, ms since 1970, if ever.
        cost_ms: estimated CPU time of decoding its image (`core.cost`).
    """

    key: str
    isolated: bool = False
    cancelled: bool = False
    retries_exhausted: bool = False
    expires_ms: int | None = None
    cost_ms: int = 0

    @property
    def job_id(self) -> str:
        """Id of the job whose image is at `key`."""
        return job_id_of(self.key)


@dataclass(eq=False)
class Delivery:
    """One message; `open` counts its jobs that are not done."""

    message: Any
    open: int


@dataclass(eq=False)
class Entry:
    """One job in the worker.

    Attributes:
        key: of its image.
        lane: that it came in.
        delivery: its message.
        request: shows the job to Celery's tools.
        isolated: it was delivered before, or its batch crashed, so it runs alone.
        expires_ms: when its image becomes too old, ms since 1970, if ever.
        cost_ms: estimated CPU time of decoding its image (`core.cost`).
        retries: tries in which storage served other images, but not this one.
        trace: `traceparent` of its request; empty if that is not traced.
    """

    key: str
    lane: str
    delivery: Delivery
    request: Request
    isolated: bool
    expires_ms: int | None = None
    cost_ms: int = 0
    retries: int = 0
    trace: str = ""

    def item(self, *, cancelled: bool) -> Item:
        """Return the job for the child."""
        return Item(
            self.key,
            self.isolated,
            cancelled,
            retries_exhausted=self.retries >= MAX_RETRIES,
            expires_ms=self.expires_ms,
            cost_ms=self.cost_ms,
        )


def entries_of(message: Any, **context: Any) -> list[Entry]:
    """Return an entry for each job of a message.

    Args:
        message: a kombu message of the task `core.messages.CLASSIFY`.
        context: further arguments of `celery.worker.request.Request`: app, task, hostname, eventer, ...

    Raises:
        InvalidTaskError: the message has no jobs; Celery logs and discards it.
    """
    images = _contents(message)
    lane = _LANE_OF.get(message.delivery_info.get("routing_key", ""), LANES[0])
    delivery = Delivery(message, open=len(images))
    isolated = bool(message.headers.get("redelivered"))
    entries = [
        Entry(key, lane, delivery, _request(message, key, context), isolated, expires_ms, cost_ms)
        for key, expires_ms, cost_ms in images
    ]
    for entry, trace in zip(entries, message.headers.get(TRACES) or (), strict=False):
        entry.trace = str(trace)
    return entries


def ack_all(messages: Iterable[Any]) -> None:
    """Acknowledge messages of one channel in one round trip; kombu's own `ack` takes one each.

    Raises the broker's connection errors; the messages are then delivered again.
    """
    unacked = [message for message in messages if not message.acknowledged]
    if not unacked:
        return
    qos = unacked[0].channel.qos
    with qos.pipe_or_acquire() as pipe:
        tags = [message.delivery_tag for message in unacked]
        pipe.zrem(qos.unacked_index_key, *tags)
        pipe.hdel(qos.unacked_key, *tags)
        pipe.execute()
    for message in unacked:
        # Of the base class: as kombu does after the two commands above.
        QoS.ack(qos, message.delivery_tag)  # type: ignore[no-untyped-call]
        message._state = "ACK"  # noqa: SLF001 - as kombu.message.Message.ack does; pinned by tests/contract


def _contents(message: Any) -> list[tuple[str, int | None, int]]:
    """Return key, expiry and decode cost of each image in the message."""
    try:
        (keys,), arguments, _ = message.payload
        expires_ms = arguments.get(EXPIRES)
        deadlines = expires_ms if isinstance(expires_ms, list) else [expires_ms] * len(keys)
        costs_ms = message.headers.get(COSTS) or [0] * len(keys)
        images = list(zip(keys, deadlines, costs_ms, strict=True))
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidTaskError(f"not a message of wastestream: {error}") from error
    if not images or not isinstance(keys, list) or not all(_is_image(*image) for image in images):
        raise InvalidTaskError("a message without jobs")
    return images


def _is_image(key: Any, expires_ms: Any, cost_ms: Any) -> bool:
    numbers = isinstance(expires_ms, int | None) and isinstance(cost_ms, int)
    return isinstance(key, str) and is_job_id(job_id_of(key)) and numbers


def _request(message: Any, key: str, context: dict[str, Any]) -> Request:
    """Return a Celery request for one job, so that inspect, revoke and Flower see it by the job's id."""
    headers = {**message.headers, "id": job_id_of(key), "argsrepr": repr((key,))}
    return Request(message, headers=headers, body=((key,), {}, {}), decoded=True, **context)
