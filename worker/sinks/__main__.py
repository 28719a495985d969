"""`python -m worker.sinks`: delivers the feed. Several may run; one works, the others stand by."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Collection
from contextlib import suppress
from typing import Final

import redis

from core import logs
from core.errors import RedisUnavailableError, SettingsError
from core.redis.client import connect
from core.redis.feed import Feed
from core.redis.job_store import JobStore
from core.redis.metrics import Reporter
from core.redis.oom import OomTolerantRedis
from core.redis.recent_results import RecentResults
from core.redis.results import ResultReader
from core.redis.sinks import ARCHIVE, MQTT, SinkStore
from core.settings import Settings, load_settings
from core.storage import ObjectStore
from worker.sinks.archive import ArchiveSink
from worker.sinks.leadership import Leadership
from worker.sinks.runner import GATHER_SECONDS, Runner, Sink
from worker.sinks.webhook_manager import WebhookManager

logger = logging.getLogger(__name__)

_STOP_SECONDS: Final = 15.0  # for the deliveries in progress


def sinks_of(settings: Settings, client: redis.Redis, recent: RecentResults) -> list[Sink]:
    """Return the sinks that the settings turn on."""
    jobs = JobStore(client)
    sinks: list[Sink] = []
    if settings.archive == "on":
        objects = ObjectStore(settings)
        sinks.append(ArchiveSink(recent, jobs, objects, retention_hours=settings.retention_hours))
    if url := settings.mqtt_url.get_secret_value():
        sinks.append(_mqtt(recent, url, settings.site))
    return sinks


def _mqtt(recent: RecentResults, url: str, site: str) -> Sink:
    try:
        from worker.sinks.mqtt import MqttSink  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"WASTESTREAM_MQTT_URL needs a package that is not installed here, {error.name}: pip install "
            "'WHEEL[mqtt]', where WHEEL is the file that wastestream was installed from."
        ) from error
    return MqttSink(recent, url=url, site=site)


def run(settings: Settings, stop: threading.Event) -> int:
    """Run the sinks until `stop` is set, or a thread has died; return the exit code."""
    client = connect(settings.redis, kind=OomTolerantRedis)
    feed = Feed(client, retention_hours=settings.retention_hours)
    recent = RecentResults(ResultReader(feed, JobStore(client)), gather=GATHER_SECONDS)
    leadership = Leadership(client)
    sinks = sinks_of(settings, client, recent)
    off = {ARCHIVE, MQTT}.difference(sink.name for sink in sinks)
    runners: list[Runner | WebhookManager] = [Runner(sink, client, recent, leadership.held) for sink in sinks]
    runners.append(WebhookManager(client, recent, leadership.held, settings.webhook_networks))
    reporter = Reporter(client)
    for thread in (leadership, *runners):
        thread.start()
    while (lives := all(thread.is_alive() for thread in (leadership, *runners))) and not stop.wait(1.0):
        if off and leadership.held():
            _forget(SinkStore(client, feed), off)
        _report(reporter)
    for runner in runners:
        runner.stop()
    for runner in runners:
        runner.join(_STOP_SECONDS)
    leadership.stop()
    _report(reporter)
    return 0 if lives else 1


def _report(reporter: Reporter) -> None:
    with suppress(RedisUnavailableError):  # The next report has it.
        reporter.report()


def _forget(store: SinkStore, off: Collection[str]) -> None:
    """Remove sinks that the settings turn off; with its cursor, each would seem to fall behind for ever.

    Repeated, because a process that led before, with other settings, may end a delivery meanwhile.
    """
    with suppress(RedisUnavailableError):  # The next turn of the loop tries again.
        store.remove(*off)


def main() -> int:
    """Run until SIGTERM or SIGINT; return the exit code."""
    try:
        settings = load_settings()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    logs.set_up(settings.log_level, "sinks")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        return run(settings, stop)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
