"""The Celery app of the workers: `celery -A worker.app inspect active` and the like find it here."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Final

from celery import signals
from celery.utils.log import get_logger
from redis.exceptions import RedisError

from core.errors import ModelError, RedisUnavailableError
from core.messages import QUEUES, Envelope, make_app
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.oom import OomTolerantRedis
from core.redis.server import LOOK_SECONDS, log_unfit
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
from worker.watchdog import STUCK_SECONDS, LoopWatchdog, ProgressWatchdog

logger = get_logger(__name__)

SEEN_SECONDS: Final = 1.0
"""How often a worker records that it is alive, and what it has done."""

MAX_SKEW: Final = 2.0
"""Seconds that the clocks of a worker and of Redis may differ without a warning."""

MAINTAIN_SECONDS: Final = 0.25
"""How often the pool is asked for children that have died."""

_LAST_SECONDS: Final = 8.0  # for what comes after the last batch; with it, a stop takes less than 30

_TIMEOUT: Final = 1.0  # seconds; the parent's event loop waits for these calls

settings = load_settings()
app = make_app(settings)
app.conf.broker_transport = TRANSPORT
app.amqp.Connection = PromptConnection
watchdog = PromptConnection.watchdog = LoopWatchdog()
task = ClassifyTask(settings)
app.register_task(task)


def _set_up_logging(**_: Any) -> None:
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _load_model(**_: Any) -> None:
    try:
        child.load_engine(settings)
    except ModelError as error:
        # Celery logs an Exception of a receiver and goes on; a worker without a model must not.
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from error
    gc.freeze()  # What is loaded by now stays: the child need not look at it, nor copy its pages.


def _start_child(**_: Any) -> None:
    try:
        child.start(settings)
    except Exception:
        # Celery would log it and keep a child that cannot classify, and replace it for ever if it ended.
        logger.exception("The worker's child cannot start; the worker ends")
        task.shutdown.fail()
        os.kill(os.getppid(), signal.SIGTERM)
        raise SystemExit(1) from None


def _keep_watch(sender: Any, **_: Any) -> None:
    """Start the parent's timers; they live as long as the worker, across reconnects."""
    name = sender.hostname
    client = connect(settings.redis_url.get_secret_value(), timeout=_TIMEOUT, kind=OomTolerantRedis)
    jobs, workers = JobStore(client, retention_hours=settings.retention_hours), WorkerRegistry(client)
    reconciler = Reconciler(name, jobs, client, Envelope(app))
    progress = ProgressWatchdog(lambda: sum(client.llen(queue) for queue in QUEUES.values()))

    runs = reported(child.running(settings))

    def seen() -> None:
        watchdog.beat()
        try:
            if progress.stuck(task.batcher):
                _give_up(workers, name)
            else:
                workers.seen(name, task.stats.totals() | runs)
        except (RedisUnavailableError, RedisError) as error:
            logger.warning("Not recorded as alive: %s", error)

    def renew() -> None:
        try:
            task.leases.renew(sender.task_consumer.channel)
            if task.batcher:
                task.batcher.acknowledge()
        except (*sender.connection_errors, RedisError, AttributeError) as error:
            # Between connections there is no channel; what it held is delivered again anyway.
            logger.debug("Leases not renewed: %r", error)

    seen()
    watchdog.start()
    _check_clock(jobs)
    sender.timer.call_repeatedly(SEEN_SECONDS, seen)
    sender.timer.call_repeatedly(RENEW_SECONDS, renew)
    sender.timer.call_repeatedly(RECONCILE_SECONDS, reconciler.run)
    sender.timer.call_repeatedly(retention.LOOK_SECONDS, Sweeper(client).look)
    log_unfit(client)
    sender.timer.call_repeatedly(LOOK_SECONDS, lambda: log_unfit(client))
    # Celery looks every 5 s; a batch whose child died should not wait that long.
    sender.timer.call_repeatedly(MAINTAIN_SECONDS, sender.pool.maintain_pool)


def _give_up(workers: WorkerRegistry, name: str) -> None:
    """End a worker that takes no jobs though some wait; whoever runs it starts a new one."""
    logger.error(
        "Jobs wait, and for %.0f s this worker has taken none: it ends, to be replaced", STUCK_SECONDS
    )
    workers.gone(name)
    task.shutdown.fail()
    os.kill(os.getpid(), signal.SIGTERM)


def _finish(**_: Any) -> None:
    """The last batch runs on while the event loop rests: keep its messages, but not for ever."""
    watchdog.stop()
    threading.Thread(target=task.leases.keep, name="leases", daemon=True).start()
    threading.Thread(target=_end_last_batch, name="last batch", daemon=True).start()


def _end_last_batch() -> None:
    time.sleep(STOP_SECONDS)
    if task.batcher:
        task.batcher.end_children(STOP_SECONDS)
    time.sleep(_LAST_SECONDS)
    # Whatever still hangs would renew the leases of its messages for ever, and nobody else would do the jobs.
    logger.error("The worker has not stopped after %.0f s: it is ended", STOP_SECONDS + _LAST_SECONDS)
    os._exit(1)


def _check_clock(jobs: JobStore) -> None:
    """Leases of messages are times by the workers' own clocks, so these must agree."""
    try:
        ahead = time.time() - jobs.now_ms() / 1000
    except RedisUnavailableError:
        return  # seen() has said so.
    if abs(ahead) > MAX_SKEW:
        logger.warning(
            "This machine's clock is %.1f s off that of Redis: jobs may run twice or recover late. "
            "Synchronise the clocks (NTP).",
            ahead,
        )


def _sign_off(sender: Any, **_: Any) -> None:
    try:
        client = connect(settings.redis_url.get_secret_value(), timeout=_TIMEOUT)
        WorkerRegistry(client).gone(sender.hostname)
    except RedisUnavailableError:
        logger.info("Redis is down: this worker counts as gone when its last sign of life is 15 s old")


for _signal, _receiver in (
    (signals.setup_logging, _set_up_logging),
    (signals.worker_init, _load_model),
    (signals.worker_process_init, _start_child),
    (signals.worker_ready, _keep_watch),
    (signals.worker_shutting_down, _finish),
    (signals.worker_shutdown, _sign_off),
):
    _signal.connect(_receiver, weak=False)
