"""Thread that keeps a runner for each active webhook, so that a slow webhook delays no other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

import redis

from core.errors import RedisUnavailableError
from core.redis.feed import Cursor, Feed
from core.redis.job_store import JobStore
from core.redis.webhooks import Webhook, WebhookStore
from core.webhook_target import Network
from worker.sinks.runner import Runner
from worker.sinks.webhook_sink import WebhookSink

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0  # between looks at the list of webhooks


class WebhookManager(threading.Thread):
    """Starts and stops runners as webhooks are made, die, are replayed and deleted.

    Args:
        client: Redis.
        feed: of the results.
        leads: returns whether this process is the one whose sinks work.
        networks: as of `core.webhook_target.allowed_addresses`.
    """

    def __init__(
        self, client: redis.Redis, feed: Feed, leads: Callable[[], bool], networks: Sequence[Network]
    ) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._client = client
        self._feed = feed
        self._leads = leads
        self._networks = networks
        self._store = WebhookStore(client)
        self._jobs = JobStore(client)
        self._runners: dict[str, Runner] = {}
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the thread, and the runners after their deliveries in progress."""
        self._stopping.set()

    def run(self) -> None:
        """Keep the runners until stopped."""
        while not self._stopping.wait(_CHECK_SECONDS):
            try:
                self._update()
            except RedisUnavailableError as error:
                logger.debug("The webhooks cannot be listed: %s", error)
        for runner in self._runners.values():
            runner.stop()
        for runner in self._runners.values():
            runner.join()

    def _update(self) -> None:
        leads = self._leads()
        webhooks = self._store.all() if leads else []
        replays = self._store.replays() if leads else {}
        wanted = {webhook.id for webhook in webhooks if webhook.dead_ms is None} - set(replays)
        for webhook_id, runner in list(self._runners.items()):
            if webhook_id not in wanted:
                runner.stop()
            if not runner.is_alive():
                del self._runners[webhook_id]
        for webhook in webhooks:
            # A runner that is stopping has the cursor until its delivery has ended.
            if webhook.id not in self._runners:
                self._begin(webhook, replays)
        if leads:
            self._store.sweep(self._runners)

    def _begin(self, webhook: Webhook, replays: dict[str, Cursor | None]) -> None:
        if webhook.id in replays:
            self._store.begin_replay(webhook, replays[webhook.id])
            webhook = webhook.revived()
        if webhook.dead_ms is None:
            sink = WebhookSink(webhook, self._store, self._feed, self._jobs, self._networks)
            self._runners[webhook.id] = Runner(sink, self._client, self._feed, self._leads)
            self._runners[webhook.id].start()
