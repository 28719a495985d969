"""The workers' Celery app, also for `celery -A worker.app inspect active` and similar commands."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from celery import signals
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from core import logs, traces
from core.errors import ModelError, RedisUnavailableError
from core.messages import QUEUES, Envelope, make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.metrics import REPORT_SECONDS, Reporter
from core.redis.oom import OomTolerantRedis
from core.redis.server import CHECK_INTERVAL, log_unfit
from core.redis.workers import WorkerRegistry, reported
from core.settings import load_settings
from worker import child
from worker.batching import STOP_SECONDS, ClassifyTask
from worker.periodic import retention
from worker.periodic.recovery import RECONCILE_SECONDS, Reconciler
from worker.periodic.retention import Sweeper
from worker.transport.channel import TRANSPORT
from worker.transport.connection import PromptConnection
from worker.transport.leases import RENEW_SECONDS
from worker.watchdog import PROGRESS_TIMEOUT, LoopWatchdog, ProgressWatchdog

logger = get_logger(__name__)

HEARTBEAT_SECONDS: Final = 1.0
"""Seconds between heartbeats, which carry the worker's statistics."""

MAX_CLOCK_SKEW: Final = 2.0
"""Seconds between the clocks of a worker and of Redis above which there is a warning."""

MAINTAIN_SECONDS: Final = 0.25
"""Seconds between checks of the pool for dead children."""

_EXIT_SECONDS: Final = 8.0  # from the end of the last batch to the exit; so a stop takes less than 30 s

_TIMEOUT: Final = 1.0  # seconds of a call to Redis, for which the parent's event loop waits

settings = load_settings()
traces.check(settings.otlp_endpoint)
app = make_app(settings)
app.conf.broker_transport = TRANSPORT
app.amqp.Connection = PromptConnection
watchdog = LoopWatchdog()
PromptConnection.on_pause = watchdog.beat
task = ClassifyTask(settings)
app.register_task(task)


def _set_up_logging(**_: Any) -> None:
    logs.set_up(settings.log_level, "worker")


def _load_model(**_: Any) -> None:
    try:
        child.load_engine(settings)
    except ModelError as error:
        # Celery only logs an Exception of a receiver; a worker without a model must not go on.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    gc.freeze()  # Objects loaded so far stay: the child's collector need not visit them.


def _start_child(**_: Any) -> None:
    try:
        child.start(settings)
    except Exception:
        # Celery would only log it and keep a child that cannot classify, or replace it for ever if it exited.
        logger.exception("The worker's child cannot start; the worker shuts down")
        task.shutdown.fail()
        os.kill(os.getppid(), signal.SIGTERM)
        raise SystemExit(1) from None


def _start_timers(sender: Any, **_: Any) -> None:
    """Start the parent's timers, which live as long as the worker, across reconnects."""
    name = sender.hostname
    traces.set_up(settings.otlp_endpoint, "wastestream-worker")
    client = connect(settings.redis, timeout=_TIMEOUT, kind=OomTolerantRedis)
    jobs, workers = JobStore(client, retention_hours=settings.retention_hours), WorkerRegistry(client)
    reporter = Reporter(client)
    reconciler = Reconciler(name, jobs, client, Envelope(app))
    progress = ProgressWatchdog(
        lambda: sum(client.llen(queue) for lane, queue in QUEUES.items() if lane not in task.paused)
    )

    model = reported(child.running(settings))

    def heartbeat() -> None:
        watchdog.beat()
        try:
            if progress.stuck(task.batcher):
                _shut_down_stuck(workers, name)
            else:
                task.pause(workers.seen(name, task.stats.totals() | model))
        except (RedisUnavailableError, RedisError) as error:
            logger.warning("Heartbeat not sent: %s", error)

    def report() -> None:
        try:
            reporter.report()
        except RedisUnavailableError as error:
            logger.debug("Metrics not sent: %s", error)

    def renew() -> None:
        try:
            task.leases.renew(sender.task_consumer.channel)
            if task.batcher:
                task.batcher.acknowledge()
        except (*sender.connection_errors, RedisError, AttributeError) as error:
            # Between connections there is no channel; its messages are delivered again.
            logger.debug("Leases not renewed: %r", error)

    heartbeat()
    watchdog.start()
    _check_clock(jobs)
    sender.timer.call_repeatedly(HEARTBEAT_SECONDS, heartbeat)
    sender.timer.call_repeatedly(REPORT_SECONDS, report)
    sender.timer.call_repeatedly(RENEW_SECONDS, renew)
    sender.timer.call_repeatedly(RECONCILE_SECONDS, reconciler.run)
    sender.timer.call_repeatedly(retention.CHECK_SECONDS, Sweeper(client).start_if_due)
    log_unfit(client)
    sender.timer.call_repeatedly(CHECK_INTERVAL, lambda: log_unfit(client))
    # Celery checks every 5 s, too long for a batch whose child died.
    sender.timer.call_repeatedly(MAINTAIN_SECONDS, sender.pool.maintain_pool)


def _shut_down_stuck(workers: WorkerRegistry, name: str) -> None:
    """Shut down a worker that takes no jobs although some wait; its supervisor starts a new one."""
    logger.error("Jobs wait, but this worker has taken none for %.0f s: it shuts down", PROGRESS_TIMEOUT)
    workers.gone(name)
    task.shutdown.fail()
    os.kill(os.getpid(), signal.SIGTERM)


def _on_shutting_down(**_: Any) -> None:
    """Renew leases while the last batch runs and the event loop has stopped, within a time limit."""
    watchdog.stop()
    threading.Thread(target=task.leases.renew_until_exit, name="leases", daemon=True).start()
    threading.Thread(target=_limit_last_batch, name="last batch", daemon=True).start()


def _limit_last_batch() -> None:
    time.sleep(STOP_SECONDS)
    if task.batcher:
        task.batcher.kill_children(STOP_SECONDS)
    time.sleep(_EXIT_SECONDS)
    # A worker that hangs would renew its leases for ever, and no other worker would get the jobs.
    logger.error("The worker has not stopped after %.0f s: it is killed", STOP_SECONDS + _EXIT_SECONDS)
    os._exit(1)


def _check_clock(jobs: JobStore) -> None:
    """Warn if the clock is wrong: leases are times of the workers' own clocks."""
    try:
        ahead = time.time() - jobs.now_ms() / 1000
    except RedisUnavailableError:
        return  # heartbeat() has logged it.
    if abs(ahead) > MAX_CLOCK_SKEW:
        logger.warning(
            "This machine's clock differs from that of Redis by %.1f s: jobs may run twice or recover late. "
            "Synchronise the clocks (NTP).",
            ahead,
        )


def _on_shutdown(sender: Any, **_: Any) -> None:
    try:
        client = connect(settings.redis, timeout=_TIMEOUT, kind=OomTolerantRedis)
        WorkerRegistry(client).gone(sender.hostname)
        Reporter(client).report()
    except RedisUnavailableError:
        logger.info("Redis is down: this worker counts as alive until its last heartbeat is 15 s old")


for _signal, _receiver in (
    (signals.setup_logging, _set_up_logging),
    (signals.worker_init, _load_model),
    (signals.worker_process_init, _start_child),
    (signals.worker_ready, _start_timers),
    (signals.worker_shutting_down, _on_shutting_down),
    (signals.worker_shutdown, _on_shutdown),
):
    _signal.connect(_receiver, weak=False)
