"""Webhooks: target, filter of results, and signing secret of each."""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import redis

from core.errors import TooManyWebhooksError, WebhookNotFoundError
from core.jobs import JobState
from core.redis import keys
from core.redis.client import translated
from core.redis.feed import Cursor

MAX_WEBHOOKS: Final = 50
"""Maximum webhooks of an installation: each has a thread and a connection of its own."""

_MARK: Final = "whsec_"  # begins every secret (Standard Webhooks); the rest is base64

_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 24  # Standard Webhooks: 24 to 64

_SINK: Final = "webhook:"


@dataclass(frozen=True, slots=True)
class Webhook:
    """A webhook. Times are milliseconds since 1970.

    Attributes:
        id: random, hexadecimal.
        url: target; see `core.webhook_target`.
        cameras: patterns of the cameras whose results it gets, `*` for any characters.
        states: states of the results that it gets.
        secret: key of the signatures.
        created_ms: time of its creation.
        failing_ms: time of the first failure of the current delivery; None while deliveries succeed.
        dead_ms: time of its end after too many failures; None while it is active.
    """

    id: str
    url: str
    cameras: tuple[str, ...]
    states: tuple[JobState, ...]
    secret: str
    created_ms: int
    failing_ms: int | None = None
    dead_ms: int | None = None

    @property
    def sink(self) -> str:
        """Name of its sink (`core.redis.sinks`)."""
        return _SINK + self.id

    def revived(self) -> Webhook:
        """Return the webhook as active, without a failure."""
        return replace(self, failing_ms=None, dead_ms=None)


class WebhookStore:
    """Keeps webhooks. Every method raises `RedisUnavailableError` while Redis is down.

    The record of a webhook never changes, and a process that sends it writes nothing into it, so nothing
    that is deleted comes back. What is left of it elsewhere is removed by `sweep`.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def create(self, url: str, cameras: Sequence[str], states: Sequence[JobState]) -> Webhook:
        """Make a webhook, which gets the results that settle from now on.

        Raises:
            TooManyWebhooksError: `MAX_WEBHOOKS` exist.
        """
        with translated():
            seconds, microseconds = self._client.time()
        now = seconds * 1000 + microseconds // 1000
        webhook = Webhook(
            id=secrets.token_hex(_ID_BYTES),
            url=url,
            cameras=tuple(cameras),
            states=tuple(states),
            secret=_MARK + base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode(),
            created_ms=now,
        )
        if len(self.all()) >= MAX_WEBHOOKS:
            raise TooManyWebhooksError(f"There are {MAX_WEBHOOKS} webhooks already; delete one first.")
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.SINKS, webhook.sink, str(Cursor(now)))
            pipe.hset(keys.WEBHOOKS, webhook.id, json.dumps(_to_record(webhook)))
            pipe.execute()
        return webhook

    def all(self) -> list[Webhook]:
        """Return every webhook, oldest first."""
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for key in (keys.WEBHOOKS, keys.WEBHOOKS_FAILING, keys.WEBHOOKS_DEAD):
                pipe.hgetall(key)
            records, failing, dead = pipe.execute()
        webhooks = [
            _from_record(webhook_id, json.loads(record), failing.get(webhook_id), dead.get(webhook_id))
            for webhook_id, record in records.items()
        ]
        return sorted(webhooks, key=lambda webhook: (webhook.created_ms, webhook.id))

    def find(self, webhook_id: str) -> Webhook:
        """Return the webhook with an id.

        Raises:
            WebhookNotFoundError: there is none.
        """
        for webhook in self.all():
            if webhook.id == webhook_id:
                return webhook
        raise WebhookNotFoundError(webhook_id)

    def delete(self, webhook: Webhook) -> None:
        """Delete a webhook. Its cursor stays until nothing can be sending it, or that would begin anew."""
        with translated():
            self._client.hdel(keys.WEBHOOKS, webhook.id)

    def replay(self, webhook: Webhook, cursor: Cursor | None) -> None:
        """Request a replay of a webhook, dead or not, from a cursor; None for its own cursor."""
        with translated(), self._client.pipeline() as pipe:
            pipe.hset(keys.WEBHOOK_REPLAYS, webhook.id, "" if cursor is None else str(cursor))
            self._revive(pipe, webhook.id)
            pipe.execute()

    def replays(self) -> dict[str, Cursor | None]:
        """Return the requested replays: id of the webhook to the cursor."""
        with translated():
            waiting = cast(dict[str, str], self._client.hgetall(keys.WEBHOOK_REPLAYS))
        return {webhook_id: Cursor.parse(text) for webhook_id, text in waiting.items()}

    def begin_replay(self, webhook: Webhook, cursor: Cursor | None) -> None:
        """Set a webhook to the cursor of its replay. No process may be sending it."""
        with translated(), self._client.pipeline() as pipe:
            if cursor is not None:
                pipe.hset(keys.SINKS, webhook.sink, str(cursor))
            pipe.hdel(keys.SINK_ERRORS, webhook.sink)
            pipe.hdel(keys.WEBHOOK_REPLAYS, webhook.id)
            self._revive(pipe, webhook.id)
            pipe.execute()

    def fail(self, webhook: Webhook) -> int:
        """Note the first failure of a delivery; return when it was, ms."""
        now = time.time_ns() // 1_000_000
        with translated():
            self._client.hset(keys.WEBHOOKS_FAILING, webhook.id, now)
        return now

    def recover(self, webhook: Webhook) -> None:
        """Note that a delivery succeeded after failures."""
        with translated():
            self._client.hdel(keys.WEBHOOKS_FAILING, webhook.id)

    def bury(self, webhook: Webhook) -> None:
        """Mark a webhook as dead, until it is replayed."""
        with translated():
            self._client.hset(keys.WEBHOOKS_DEAD, webhook.id, time.time_ns() // 1_000_000)

    def sweep(self, running: Collection[str]) -> None:
        """Remove remains of deleted webhooks, except of webhooks that a process may still be sending."""
        with translated(), self._client.pipeline() as pipe:
            for key in (keys.WEBHOOKS, keys.WEBHOOKS_FAILING, keys.WEBHOOKS_DEAD, keys.WEBHOOK_REPLAYS):
                pipe.hgetall(key)
            for key in (keys.SINKS, keys.SINK_ERRORS):
                pipe.hgetall(key)
            known, *states, cursors, errors = pipe.execute()
        named = {name.removeprefix(_SINK) for name in (*cursors, *errors) if name.startswith(_SINK)}
        if ghosts := named.union(*states).difference(known, running):
            with translated(), self._client.pipeline() as pipe:
                for key in (keys.WEBHOOKS_FAILING, keys.WEBHOOKS_DEAD, keys.WEBHOOK_REPLAYS):
                    pipe.hdel(key, *ghosts)
                for key in (keys.SINKS, keys.SINK_ERRORS, keys.SINK_GAPS):
                    pipe.hdel(key, *(_SINK + webhook_id for webhook_id in ghosts))
                pipe.execute()

    @staticmethod
    def _revive(pipe: redis.client.Pipeline, webhook_id: str) -> None:
        for key in (keys.WEBHOOKS_FAILING, keys.WEBHOOKS_DEAD):
            pipe.hdel(key, webhook_id)


def _to_record(webhook: Webhook) -> dict[str, object]:
    return {
        "url": webhook.url,
        "cameras": webhook.cameras,
        "states": webhook.states,
        "secret": webhook.secret,
        "created": webhook.created_ms,
    }


def _from_record(
    webhook_id: str, record: Mapping[str, Any], failing: str | None, dead: str | None
) -> Webhook:
    return Webhook(
        id=webhook_id,
        url=record["url"],
        cameras=tuple(record["cameras"]),
        states=tuple(map(JobState, record["states"])),
        secret=record["secret"],
        created_ms=record["created"],
        failing_ms=None if failing is None else int(failing),
        dead_ms=None if dead is None else int(dead),
    )
