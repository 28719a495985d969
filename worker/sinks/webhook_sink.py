"""Sink of one webhook: posts the selected results, signed, in batches."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from standardwebhooks import Webhook as Signer

from core.redis.feed import Cursor
from core.redis.recent_results import RecentResults
from core.redis.results import Result, ResultFilter, read_page
from core.redis.webhooks import Webhook, WebhookStore
from core.times import optional_timestamp
from core.webhook_target import Network, parse_target
from worker.sinks.runner import GATHER_SECONDS, DeliveryError
from worker.sinks.webhook_client import GoneError, WebhookClient

MAX_RESULTS: Final = 100
"""Maximum results in a batch."""

RETRY_SECONDS: Final = 24 * 3600
"""Seconds after the first failure of a delivery until the webhook is dead."""

_MAX_SCANNED: Final = 2_000  # results looked at for a batch, whatever the webhook wants of them


@dataclass(frozen=True, slots=True)
class _Batch:
    """Results between two cursors, as they are sent; `body` is empty if none is selected.

    Kept until it is accepted, so that each attempt sends the same bytes under the same id, though more
    results settle meanwhile.
    """

    id: str
    before: Cursor
    after: Cursor
    body: str


class WebhookSink:
    """Sends the results of one webhook. Used by one thread.

    Args:
        webhook: to send.
        store: records its failures and its end.
        recent: the results.
        networks: as of `core.webhook_target.allowed_addresses`.
    """

    gather = GATHER_SECONDS
    max_pause = 60.0

    def __init__(
        self,
        webhook: Webhook,
        store: WebhookStore,
        recent: RecentResults,
        networks: Sequence[Network],
    ) -> None:
        self.name = webhook.sink
        self._webhook = webhook
        self._store = store
        self._recent = recent
        self._wanted = ResultFilter(states=frozenset(webhook.states), patterns=webhook.cameras)
        self._client = WebhookClient(parse_target(webhook.url), networks)
        self._signer = Signer(webhook.secret)
        self._failing_ms = webhook.failing_ms
        self._batch: _Batch | None = None
        self._dead = False  # It sends no more until its thread is stopped.

    def deliver(self, cursor: Cursor) -> Cursor | None:
        """Send the next results; see `worker.sinks.runner.Sink`."""
        if self._dead:
            return None
        if self._batch is None or self._batch.before != cursor:
            self._batch = self._next_batch(cursor)
        batch = self._batch
        if batch is None:
            return None
        if batch.body:
            self._send(batch)
        self._batch = None
        return batch.after

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _next_batch(self, cursor: Cursor) -> _Batch | None:
        page = read_page(self._recent.read, cursor, self._wanted, MAX_RESULTS, _MAX_SCANNED)
        if page.cursor == cursor:
            return None
        body = _body(page.results, page.cursor) if page.results else ""
        return _Batch(self._batch_id(cursor, page.cursor), cursor, page.cursor, body)

    def _batch_id(self, before: Cursor, after: Cursor) -> str:
        """Return the same id for the same results, also from another process."""
        return "msg_" + hashlib.sha256(f"{self._webhook.id} {before} {after}".encode()).hexdigest()[:32]

    def _send(self, batch: _Batch) -> None:
        now = datetime.now(UTC)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "wastestream",
            "webhook-id": batch.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(batch.id, now, batch.body),
        }
        try:
            self._client.post(headers, batch.body.encode())
        except GoneError:
            self._bury()
            raise
        except DeliveryError:
            self._note_failure()
            raise
        if self._failing_ms is not None:
            self._store.recover(self._webhook)
            self._failing_ms = None

    def _note_failure(self) -> None:
        if self._failing_ms is None:
            self._failing_ms = self._store.fail(self._webhook)
        if time.time() * 1000 - self._failing_ms >= RETRY_SECONDS * 1000:
            self._bury()

    def _bury(self) -> None:
        self._dead = True
        self._store.bury(self._webhook)


def _body(results: Sequence[Result], after: Cursor) -> str:
    """Return the payload (Standard Webhooks): when its latest result settled, and the results."""
    last = results[-1].job
    settled = json.dumps(optional_timestamp(None if last is None else last.settled_ms))
    documents = ",".join([result.json for result in results])
    return f'{{"type":"results","timestamp":{settled},"data":{{"results":[{documents}],"cursor":"{after}"}}}}'
