"""A message of the broker and the jobs in it; messages are acked in bulk, when all their jobs are done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from celery.exceptions import InvalidTaskError
from celery.worker.request import Request
from kombu.transport.virtual import QoS

from core.ids import is_job_id
from core.lanes import LANES
from core.messages import COSTS, EXPIRES, QUEUES
from core.shards import job_id_of
from worker.classify import Item

MAX_MISSES: Final = 6
"""Misses after which a job settles `failed`: with pauses of 1, 2, 4, ... seconds, about a minute."""

_LANE_OF: Final = {queue: lane for lane, queue in QUEUES.items()}


@dataclass(eq=False)
class Delivery:
    """One message: `open` counts its jobs that are not done."""

    message: Any
    open: int


@dataclass(eq=False)
class Entry:
    """One job in the worker's hands.

    `request` shows it to Celery's tools. `repeated`: it was delivered before, or its batch crashed, so it
    runs alone. `expires_ms`: when its image becomes too old, if ever. `cost_ms`: what it costs to decode
    (`core.cost`). `misses`: how often storage did not serve its image while it served others.
    """

    key: str
    lane: str
    delivery: Delivery
    request: Request
    repeated: bool
    expires_ms: int | None = None
    cost_ms: int = 0
    misses: int = 0

    def item(self, *, cancelled: bool) -> Item:
        """Return what the child is told of the job."""
        given_up = self.misses >= MAX_MISSES
        return Item(
            self.key,
            self.repeated,
            cancelled,
            given_up=given_up,
            expires_ms=self.expires_ms,
            cost_ms=self.cost_ms,
        )


def entries_of(message: Any, **context: Any) -> list[Entry]:
    """Return one entry for each job that the message names.

    Args:
        message: a kombu message of the task `core.messages.CLASSIFY`.
        context: what `celery.worker.request.Request` takes besides: app, task, hostname, eventer, ...

    Raises:
        InvalidTaskError: the message does not name jobs; Celery logs and discards it.
    """
    images = _contents(message)
    lane = _LANE_OF.get(message.delivery_info.get("routing_key", ""), LANES[0])
    delivery = Delivery(message, open=len(images))
    repeated = bool(message.headers.get("redelivered"))
    return [
        Entry(key, lane, delivery, _request(message, key, context), repeated, expires_ms, cost_ms)
        for key, expires_ms, cost_ms in images
    ]


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
        # The base class's: what kombu does after the two commands above.
        QoS.ack(qos, message.delivery_tag)  # type: ignore[no-untyped-call]
        message._state = "ACK"  # noqa: SLF001 - as kombu.message.Message.ack does; pinned by tests/contract


def _contents(message: Any) -> list[tuple[str, int | None, int]]:
    """Return the keys of the images that the message names, when each becomes too old, and what it costs."""
    try:
        (keys,), arguments, _ = message.payload
        expires_ms = arguments.get(EXPIRES)
        deadlines = expires_ms if isinstance(expires_ms, list) else [expires_ms] * len(keys)
        costs_ms = message.headers.get(COSTS) or [0] * len(keys)
        images = list(zip(keys, deadlines, costs_ms, strict=True))
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidTaskError(f"not a message of ours: {error}") from error
    if not images or not isinstance(keys, list) or not all(_is_image(*image) for image in images):
        raise InvalidTaskError("a message that names no jobs")
    return images


def _is_image(key: Any, expires_ms: Any, cost_ms: Any) -> bool:
    numbers = isinstance(expires_ms, int | None) and isinstance(cost_ms, int)
    return isinstance(key, str) and is_job_id(job_id_of(key)) and numbers


def _request(message: Any, key: str, context: dict[str, Any]) -> Request:
    """Return a Celery request for one job: inspect, revoke and Flower know it by the job's id."""
    headers = {**message.headers, "id": job_id_of(key), "argsrepr": repr((key,))}
    return Request(message, headers=headers, body=((key,), {}, {}), decoded=True, **context)
