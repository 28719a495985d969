"""Batching, as a Celery execution strategy.

No timer decides. A free slot and a non-empty buffer start a batch at once, so an idle worker classifies a
single image without delay. While the slots are busy, jobs collect, so a busy worker runs full batches.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from typing import Any, Final

from celery import Task, signals
from celery.utils.log import get_logger
from celery.worker import state
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from core import metrics
from core.cost import MAX_COST_MS
from core.jobs import JobState
from core.lanes import LANES
from core.messages import CLASSIFY, QUEUES
from core.settings import Settings
from worker import child
from worker.buffer import Buffer
from worker.classify import Result, Retry
from worker.shutdown import Shutdown
from worker.spans import record_batch
from worker.stats import Stats
from worker.time_limit import time_limit
from worker.transport.channel import RECHECK_SECONDS
from worker.transport.delivery import Entry, ack_all, entries_of
from worker.transport.leases import Leases

logger = get_logger(__name__)

MIN_BACKOFF: Final = 0.25
MAX_BACKOFF: Final = 5.0
"""Seconds before the next batch during an outage of Redis or storage; they double with each failure."""

STOP_SECONDS: Final = 20.0
"""Seconds for the last batch when the worker must stop; so the whole worker stops within 30."""

_GRACE: Final = 5.0
"""Seconds by which the parent's time limit for a batch exceeds the child's."""

RETRY_BACKOFF: Final = 1.0
"""Seconds before the first retry of a job whose image storage did not serve; they double with each."""


class Batcher:
    """Collects the jobs of one broker connection and runs them in the pool.

    Celery makes a new batcher at every reconnect. The jobs of an earlier one are delivered again, so its late
    results only update Celery's own records. The hub calls every method; none may raise, because an exception
    in the hub ends the worker.
    """

    def __init__(self, task: ClassifyTask, app: Any, consumer: Any) -> None:
        self._task = task
        self._consumer = consumer
        self._context = {
            "app": app,
            "task": task,
            "hostname": consumer.hostname,
            "eventer": consumer.event_dispatcher,
            "connection_errors": consumer.connection_errors,
        }
        self._buffer = Buffer()
        self._free_slots = consumer.pool.num_processes
        self._open_jobs = 0  # received and not done
        self._open_messages = 0  # received and not done
        self._complete: list[Any] = []  # messages whose jobs are done, not yet acknowledged
        self._backoff = 0.0  # seconds, 0 without an outage
        self._is_backing_off = False
        self._channel = consumer.connection.default_channel
        self._timeouts: set[Any] = set()  # timers, one for each running batch
        self._awaiting_retry = 0  # jobs that a timer adds to the buffer again
        self.progress = 0  # messages received plus batches ended
        self.choose_queues()

    @property
    def is_busy(self) -> bool:
        """Whether the worker has a reason to take no message: a batch, an outage, retries, shutdown."""
        return self._free_slots <= 0 or self._is_backing_off or self._awaiting_retry > 0 or self._stopping

    def close(self) -> None:
        """Cancel the time limits of all batches, because the connection has ended.

        Celery's pool has discarded the batches that no child had accepted, and never reports them. A batch
        that is still running keeps the time limit of its child.
        """
        for timeout in self._timeouts:
            timeout.cancel()
        self._timeouts.clear()

    def receive(self, message: Any, _body: Any, _ack: Any, _reject: Any, _callbacks: Any) -> None:
        """Receive one message; Celery calls this the task message handler."""
        entries = entries_of(message, **self._context)
        for entry in entries:
            state.task_reserved(entry.request)
            signals.task_received.send(sender=self._consumer, request=entry.request)
            entry.request.send_event("task-received", name=CLASSIFY, args=entry.request.argsrepr, kwargs="{}")
            self._buffer.add(entry)
        if entries[0].isolated:
            metrics.REDELIVERED.add(by=len(entries))
        self._open_jobs += len(entries)
        self._open_messages += 1
        self.progress += 1
        self._dispatch()
        self._limit_prefetch()

    def acknowledge(self) -> None:
        """Acknowledge the complete messages; if that fails, the next call tries again."""
        if self._stale or not self._complete:
            return
        try:
            ack_all(self._complete)
        except (*self._consumer.connection_errors, RedisError, OperationalError) as error:
            # The jobs are settled. The next batch, or the next renewal of leases, tries again.
            logger.warning("%d messages not acknowledged yet: %s", len(self._complete), error)
        else:
            self._complete.clear()

    def _dispatch(self) -> None:
        while self._free_slots > 0 and not self._is_backing_off and not self._stopping:
            entries = self._buffer.take(self._task.settings.max_batch)
            if not entries:
                return
            self._free_slots -= 1
            self._start(entries)

    @property
    def _stopping(self) -> bool:
        return state.should_stop is not None or state.should_terminate is not None or self._stale

    @property
    def _stale(self) -> bool:
        return self._task.batcher is not self

    def _start(self, entries: list[Entry]) -> None:
        def on_accepted(pid: int, accepted: float) -> None:
            for entry in entries:
                entry.request.on_accepted(pid, accepted)

        def on_results(returned: child.Returned) -> None:
            self._cancel_timeout(timeout)
            seconds = time.monotonic() - started
            self._task.stats.end(len(entries), seconds, returned.stage_times)
            metrics.merge(returned.counts)
            record_batch(entries, began_ns, returned.stage_times)
            self._on_results(entries, returned.results, seconds)

        def on_crash(failure: Any) -> None:
            self._cancel_timeout(timeout)
            self._on_crash(entries, failure)

        began_ns, started = time.time_ns(), time.monotonic()
        timeout = self._start_timeout(started, entries)
        items = [entry.item(cancelled=entry.request.id in state.revoked) for entry in entries]
        self._task.stats.begin((entry.lane, entry.request.id) for entry in entries)
        self._consumer.pool.apply_async(
            child.run_batch,
            args=(items, child.epoch.current),
            accept_callback=on_accepted,
            callback=on_results,
            error_callback=on_crash,
            correlation_id=entries[0].request.id,
        )

    def _start_timeout(self, started: float, entries: list[Entry]) -> Any:
        """Start the timer of a batch, in case its child hangs outside its own time limit.

        The child may have to finish a batch of an earlier connection first.
        """
        timeout, attempts = self._task.settings.batch_timeout, len(entries) if entries[0].isolated else 1
        earlier = time_limit(timeout, [MAX_COST_MS])
        seconds = earlier + time_limit(attempts * timeout, (entry.cost_ms for entry in entries)) + _GRACE
        timer = self._consumer.timer.call_repeatedly(seconds, self._on_timeout, (started, 1.5 * seconds))
        self._timeouts.add(timer)
        return timer

    def _cancel_timeout(self, timer: Any) -> None:
        timer.cancel()
        self._timeouts.discard(timer)

    def _on_timeout(self, started: float, max_seconds: float) -> None:
        """Kill the child of a batch that takes too long; after `max_seconds` shut the worker down."""
        seconds = time.monotonic() - started
        self.kill_children(seconds)
        if seconds > max_seconds:
            logger.error("The pool did not notice that its child was killed: the worker shuts down")
            self._task.shutdown.fail()
            os.kill(os.getpid(), signal.SIGTERM)

    def kill_children(self, seconds: float) -> None:
        """Kill the child of a batch that takes too long; the pool then reports a crash."""
        logger.error("A batch has taken %.0f s: its child is killed", seconds)
        for pid in self._consumer.pool.info["processes"]:
            with contextlib.suppress(ProcessLookupError):  # It has just ended.
                os.kill(pid, signal.SIGKILL)

    def _on_results(self, entries: list[Entry], results: Sequence[Result], seconds: float) -> None:
        settled, after_outage = [], []
        for entry, result in zip(entries, results, strict=True):
            match result:
                case Retry.AFTER_OUTAGE:
                    after_outage.append(entry)
                case Retry.WITH_BACKOFF:
                    self._schedule_retry(entry)
                case Retry.ISOLATED:
                    entry.isolated = True
                    state.active_requests.discard(entry.request)
                    metrics.PUT_BACK.add("memory")
                    self._buffer.add(entry)
                case _:
                    settled.append(entry)
                    _report(entry, result, seconds)
        if after_outage:
            self._back_off(after_outage)
        else:
            self._backoff = 0.0
        self._done(settled)

    def _on_crash(self, entries: list[Entry], failure: Any) -> None:
        """Retry each job of a batch isolated: the child died, hung or raised."""
        logger.error(
            "A batch of %d ended without a result: %s", len(entries), failure.exception, extra=_jobs(entries)
        )
        for entry in entries:
            entry.isolated = True
            state.active_requests.discard(entry.request)
            self._task.leases.mark_crashed(entry.delivery.message.delivery_tag)
        metrics.PUT_BACK.add("crash", by=len(entries))
        self._buffer.requeue(entries)
        self._done([])

    def _back_off(self, entries: list[Entry]) -> None:
        """Keep the jobs and pause before the next batch: storage or Redis is down."""
        for entry in entries:
            state.active_requests.discard(entry.request)
        metrics.PUT_BACK.add("outage", by=len(entries))
        self._buffer.requeue(entries)
        self._backoff = min(MAX_BACKOFF, max(MIN_BACKOFF, 2 * self._backoff))
        logger.warning(
            "%d jobs not settled: storage or Redis is down; retry in %.2f s",
            len(entries),
            self._backoff,
            extra=_jobs(entries),
        )
        if not self._is_backing_off:
            self._is_backing_off = True
            self._consumer.timer.call_after(self._backoff, self._resume)

    def _resume(self) -> None:
        self._is_backing_off = False
        self._dispatch()

    def _schedule_retry(self, entry: Entry) -> None:
        """Retry the job later: storage serves other images, but not this one."""
        state.active_requests.discard(entry.request)
        seconds = RETRY_BACKOFF * 2**entry.retries
        entry.retries += 1
        self._awaiting_retry += 1
        metrics.PUT_BACK.add("unserved")
        logger.warning("Storage did not serve %s; retry in %.0f s", entry.key, seconds, extra=_jobs([entry]))
        self._consumer.timer.call_after(seconds, self._retry, (entry,))

    def _retry(self, entry: Entry) -> None:
        self._awaiting_retry -= 1
        self._buffer.add(entry)
        self._dispatch()

    def _done(self, entries: list[Entry]) -> None:
        """Free the slot, acknowledge complete messages, start the next batch."""
        self._free_slots += 1
        self.progress += 1
        if self._stale:
            return
        for entry in entries:
            entry.delivery.open -= 1
            if not entry.delivery.open:
                self._complete.append(entry.delivery.message)
                self._open_messages -= 1
        self._open_jobs -= len(entries)
        self.acknowledge()
        self._dispatch()
        self._limit_prefetch()

    def _limit_prefetch(self) -> None:
        """Limit the open jobs; Celery would limit messages, which have up to 16 jobs each."""
        self.choose_queues()
        free = max(0, self._consumer.initial_prefetch_count - self._open_jobs)
        self._consumer.qos.value = max(1, self._open_messages + len(self._complete) + free)

    def choose_queues(self) -> None:
        """Take no messages of paused lanes, nor of lanes with enough work for a batch here.

        Of the latter other workers may take them, which are idle.
        """
        full = self._buffer.full()
        queues = [QUEUES[lane] for lane in full | self._task.paused]
        self._channel.pause(queues, RECHECK_SECONDS if full else None)


class ClassifyTask(Task):  # type: ignore[misc]  # Celery has no types
    """The only task. Its strategy collects messages into batches; no message runs by itself."""

    name = CLASSIFY
    typing = False
    batcher: Batcher | None = None
    paused = frozenset(LANES)
    """Lanes that were paused at the latest heartbeat. Before the first heartbeat this is every lane."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leases = Leases()
        self.shutdown = Shutdown()
        self.stats = Stats()

    def pause(self, lanes: frozenset[str]) -> None:
        """Take messages of all lanes but these until the next call."""
        if lanes != self.paused:
            self.paused = lanes
            if self.batcher:
                self.batcher.choose_queues()

    def Strategy(self, task: ClassifyTask, app: Any, consumer: Any) -> Any:  # noqa: N802 - Celery's name
        """Return the function that Celery calls for each message."""
        child.epoch.begin()
        # Before the first message: Redis may record one just before the connection breaks.
        task.leases.renew(consumer.connection.default_channel)
        if task.batcher:
            task.batcher.close()
        task.batcher = Batcher(task, app, consumer)
        return task.batcher.receive


def _jobs(entries: Sequence[Entry]) -> dict[str, Any]:
    """Return what a log says about the jobs of a record."""
    ids = [entry.request.id for entry in entries]
    return {"job_id": ids[0]} if len(ids) == 1 else {"job_ids": ids}


def _report(entry: Entry, result: Result, seconds: float) -> None:
    """Report the result of a job to Celery's records and events."""
    request = entry.request
    if result is JobState.CANCELLED and request.id in state.revoked:
        request.revoked()
    elif result is JobState.FAILED:
        state.task_ready(request)
        request.send_event("task-failed", exception="the image cannot be classified", traceback="")
    else:
        request.on_success((False, str(result or "unknown"), seconds))
