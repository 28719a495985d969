"""The queue between API and workers: the Celery app's settings, its names, and its messages.

The API does not call `send_task`, which costs more than all the rest of an upload. It takes one message
that the installed Celery and kombu make themselves, keeps it as a template, and hands filled copies to
`JobStore.accept_many`, which pushes them in the same atomic step that records the jobs: no crash can fall
between the two.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any, Final

from celery import Celery
from kombu.connection import Connection
from redis.connection import parse_url
from ulid import ULID

from core.lanes import LANES, SINGLE
from core.redis_url import TLS, UNIX, RedisAddress
from core.settings import Settings
from core.shards import job_id_of

CLASSIFY: Final = "wastestream.classify"
"""Name of the task that classifies images."""

QUEUES: Final = {lane: f"wastestream.{lane}" for lane in LANES}
"""Name of each lane's queue, which is also its list in Redis."""

_DEFAULT_QUEUE: Final = QUEUES[SINGLE]

EXPIRES: Final = "expires_ms"
"""The task's argument that says when the images become too old: ms since 1970, or a list with each one's."""

IMAGES: Final = "images"
"""Header with the number of a message's images."""

COSTS: Final = "costs_ms"
"""Header with the cost of decoding each image (`core.cost`); absent if all cost little."""

FORMAT: Final = 1
"""Version of messages and stored objects. Workers read this one and older ones: raise it with a change that
an older worker would misread, so that `api.rollout` waits for newer workers."""

ADDRESS: Final = "address"
"""Option of the transport with the `RedisAddress` by which workers connect (`worker.transport.channel`)."""

TRACES: Final = "traceparents"
"""Header with the `traceparent` of each image's request (`core.traces`); absent if none is traced."""

VISIBILITY_TIMEOUT: Final = 8
"""Seconds after which messages of a worker that has died are delivered again.

Living workers renew theirs every 2 s (`worker.transport.leases`): a slow batch is never delivered twice.
"""


def make_app(settings: Settings) -> Celery:
    """Return a Celery app that knows the broker; `worker.app` adds the task to it."""
    url, tls = _broker(settings.redis)
    app = Celery("wastestream", broker=url, set_as_current=False)
    app.conf.update(
        broker_use_ssl=tls,
        task_default_queue=_DEFAULT_QUEUE,
        task_create_missing_queue_type="classic",
        task_ignore_result=True,  # results are the job records; Celery's cost 5 Redis commands each
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_send_sent_event=False,
        accept_content=["json"],
        worker_prefetch_multiplier=2 * settings.max_batch,
        worker_enable_prefetch_count_reduction=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_proc_alive_timeout=120,
        worker_lost_wait=0.2,  # seconds that a dead child's last result may still be on its way
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,  # such as Redis out of memory: wait for it, do not end
        broker_transport_options={
            ADDRESS: settings.redis,
            "priority_steps": [0],
            "visibility_timeout": VISIBILITY_TIMEOUT,
            "unacked_restore_interval": 2,
            "unacked_restore_throttle": 1,
            "unacked_restore_limit": 200,
            "unacked_mutex_expire": 10,
            "socket_timeout": 10,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 10,
            "retry_on_timeout": False,
        },
    )
    return app


def _broker(redis: RedisAddress) -> tuple[str, dict[str, Any] | None]:
    """Return Celery's `broker_url` and `broker_use_ssl`; None without TLS.

    Workers connect by the address itself. Flower reads the URL; it also is what Celery's log shows.
    """
    address, _, options = redis.url.partition("?")
    if redis.url.startswith(f"{UNIX}://"):
        # Only a name: kombu's own scheme for socket files would also choose its own transport.
        return f"redis://socket-file/{options.partition('=')[2]}", None
    if not redis.url.startswith(f"{TLS}://"):
        return address, None
    parsed: dict[str, Any] = parse_url(redis.url)  # type: ignore[no-untyped-call]
    tls = {name: value for name, value in parsed.items() if name.startswith("ssl_")}
    return address, {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **tls}


class Envelope:
    """Makes messages of the task, as text for the broker's list."""

    def __init__(self, app: Celery) -> None:
        self._template = _template(app)

    def message(
        self,
        keys: Sequence[str],
        lane: str,
        expires_ms: Sequence[int | None] = (),
        costs_ms: Sequence[int] = (),
        traceparents: Sequence[str] = (),
    ) -> str:
        """Return a message that asks to classify the images at `keys`.

        Its task id is the first job's id, so that Celery's tools and ours name it alike.

        Args:
            keys: of images in one object, so that no two workers read it.
            lane: whose queue it is for.
            expires_ms: when each image becomes too old, ms since 1970; nothing if none does.
            costs_ms: what each costs to decode; nothing if all cost little.
            traceparents: context of each one's trace; nothing if none is traced.
        """
        task_id = job_id_of(keys[0])
        headers = {
            **self._template["headers"],
            "id": task_id,
            "root_id": task_id,
            "argsrepr": f"({list(keys[:1])},)",
            IMAGES: len(keys),
        }
        if any(costs_ms):
            headers[COSTS] = list(costs_ms)
        if any(traceparents):
            headers[TRACES] = list(traceparents)
        properties = {
            **self._template["properties"],
            "correlation_id": task_id,
            "delivery_info": {"exchange": "", "routing_key": QUEUES[lane]},
            # Unlike a job's id it counts up within a millisecond: messages of one moment keep their order.
            "delivery_tag": str(ULID()),
        }
        different = list(dict.fromkeys(expires_ms))
        deadline = different[0] if len(different) == 1 else list(expires_ms) or None
        arguments = {} if deadline is None else {EXPIRES: deadline}
        body = json.dumps([[list(keys)], arguments, _EMBED]).encode()
        return json.dumps(
            {
                **self._template,
                "body": base64.b64encode(body).decode(),
                "headers": headers,
                "properties": properties,
            }
        )


def keys_in(message: dict[str, Any]) -> list[str]:
    """Return the keys of the images that a message names, as decoded from the broker's list.

    Raises:
        ValueError, LookupError, TypeError: it is no message of ours.
    """
    (keys,), _, _ = json.loads(base64.b64decode(message["body"]))
    return [str(key) for key in keys]


_EMBED: Final = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def _template(app: Celery) -> dict[str, Any]:
    """Return the message that `send_task` puts on a virtual transport's queue."""
    with Connection("memory://") as connection:  # type: ignore[no-untyped-call]
        app.send_task(CLASSIFY, args=[[]], queue=_DEFAULT_QUEUE, connection=connection, task_id="template")
        message: dict[str, Any] = connection.default_channel._get(_DEFAULT_QUEUE)  # noqa: SLF001 - pinned by tests/contract
    return message
