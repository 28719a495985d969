"""Thread that keeps a runner for each active webhook, so that a slow webhook delays no other."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import redis

from core.errors import RedisUnavailableError
from core.redis.feed import Cursor
from core.redis.recent_results import RecentResults
from core.redis.webhooks import Webhook, WebhookStore
from core.webhook_target import Network
from worker.sinks.runner import Runner
from worker.sinks.webhook_sink import WebhookSink

logger = logging.getLogger(__name__)

_CHECK_SECONDS: Final = 1.0  # between looks at the list of webhooks
_SWEEP_SECONDS: Final = 60.0


class WebhookManager(threading.Thread):
    """Starts and stops runners as webhooks are made, die, are replayed and deleted.

    Args:
        client: Redis.
        recent: the results.
        leads: returns whether this process is the one whose sinks work.
        networks: as of `core.webhook_target.allowed_addresses`.
    """

    def __init__(
        self,
        client: redis.Redis,
        recent: RecentResults,
        leads: Callable[[], bool],
        networks: Sequence[Network],
    ) -> None:
        super().__init__(name="webhooks", daemon=True)
        self._client = client
        self._recent = recent
        self._leads = leads
        self._networks = networks
        self._store = WebhookStore(client)
        self._runners: dict[str, Runner] = {}
        self._stopping = threading.Event()
        self._swept: frozenset[str] = frozenset()
        self._swept_at = -_SWEEP_SECONDS  # on the monotonic clock

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
            self._sweep(frozenset(self._runners).union(webhook.id for webhook in webhooks))

    def _sweep(self, known: frozenset[str]) -> None:
        """Remove what is left of webhooks that were deleted: after each change, and now and then."""
        if known != self._swept or time.monotonic() - self._swept_at >= _SWEEP_SECONDS:
            self._store.sweep(self._runners)
            self._swept, self._swept_at = known, time.monotonic()

    def _begin(self, webhook: Webhook, replays: dict[str, Cursor | None]) -> None:
        if webhook.id in replays:
            self._store.begin_replay(webhook, replays[webhook.id])
            webhook = webhook.revived()
        if webhook.dead_ms is None:
            sink = WebhookSink(webhook, self._store, self._recent, self._networks)
            self._runners[webhook.id] = Runner(sink, self._client, self._recent, self._leads)
            self._runners[webhook.id].start()
