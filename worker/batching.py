"""When to run a batch: a Celery execution strategy.

No timer decides. A free slot and a non-empty buffer start a batch at once, so an idle worker classifies a
single image without waiting; while the slots are busy, jobs gather, so a busy worker runs full batches.
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

from core.cost import MAX_COST_MS
from core.jobs import JobState
from core.messages import CLASSIFY, QUEUES
from core.settings import Settings
from worker import child
from worker.buffer import Buffer
from worker.classify import ALONE, NOT_SERVED, PUT_BACK, Result
from worker.shutdown import Shutdown
from worker.stats import Spent, Stats
from worker.time_limit import time_limit
from worker.transport.delivery import Entry, ack_all, entries_of
from worker.transport.leases import Leases

logger = get_logger(__name__)

SHORTEST_PAUSE: Final = 0.25
LONGEST_PAUSE: Final = 5.0
"""Seconds that the worker waits after a batch was put back; the pause doubles from the shortest."""

STOP_SECONDS: Final = 20.0
"""Seconds that the last batch may take once the worker was told to stop: it ends within 30 in all."""

_GRACE: Final = 5.0
"""Seconds by which the parent is more patient with a batch than its child."""

SHORTEST_ABSENCE: Final = 1.0
"""Seconds until a job whose image was not served is tried again; they double with each time."""


class Batcher:
    """Gathers the jobs of one broker connection and runs them in the pool.

    Celery makes a new one at every reconnect: what an earlier one held is delivered again, so its results,
    when they come, only update Celery's own books. The hub calls every method; none may raise, because an
    exception in the hub ends the worker.
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
        self._free = consumer.pool.num_processes
        self._held = 0  # jobs received and not done
        self._messages = 0  # messages received and not done
        self._complete: list[Any] = []  # messages whose jobs are done, not yet acknowledged
        self._pause = 0.0  # the last pause's seconds, 0 while all is well
        self._paused = False
        self._channel: Any = None  # that messages come from, once one has come
        self._watches: set[Any] = set()  # timers, one for each batch that the pool has
        self._absent = 0  # jobs set aside, which a timer brings in again
        self.progress = 0  # messages received and batches ended: it grows while the worker works

    @property
    def occupied(self) -> bool:
        """Whether there is a reason to take no message now: a batch, a pause, images awaited, the end."""
        return self._free <= 0 or self._paused or self._absent > 0 or self._stopping

    def close(self) -> None:
        """Watch no batch any more: the connection has ended.

        Celery's pool has discarded those that no child had accepted, and will never call back. One that runs
        on keeps the limit that its child set.
        """
        for watch in self._watches:
            watch.cancel()
        self._watches.clear()

    def receive(self, message: Any, _body: Any, _ack: Any, _reject: Any, _callbacks: Any) -> None:
        """Take one message: what Celery calls the task message handler."""
        entries = entries_of(message, **self._context)
        for entry in entries:
            state.task_reserved(entry.request)
            signals.task_received.send(sender=self._consumer, request=entry.request)
            entry.request.send_event("task-received", name=CLASSIFY, args=entry.request.argsrepr, kwargs="{}")
            self._buffer.add(entry)
        self._channel = message.channel
        self._held += len(entries)
        self._messages += 1
        self.progress += 1
        self._dispatch()
        self._limit_prefetch()

    def acknowledge(self) -> None:
        """Acknowledge the messages that are complete; those that cannot be now wait for the next call."""
        if self._stale or not self._complete:
            return
        try:
            ack_all(self._complete)
        except (*self._consumer.connection_errors, RedisError, OperationalError) as error:
            # Their jobs are settled. The next batch or the next renewal of leases tries again.
            logger.warning("%d messages not acknowledged yet: %s", len(self._complete), error)
        else:
            self._complete.clear()

    def _dispatch(self) -> None:
        while self._free > 0 and not self._paused and not self._stopping:
            entries = self._buffer.take(self._task.settings.max_batch)
            if not entries:
                return
            self._free -= 1
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

        def on_results(ran: tuple[Sequence[Result], Spent]) -> None:
            self._unwatch(watch)
            results, spent = ran
            seconds = time.monotonic() - started
            self._task.stats.end(len(entries), seconds, spent)
            self._on_results(entries, results, seconds)

        def on_crash(failure: Any) -> None:
            self._unwatch(watch)
            self._on_crash(entries, failure)

        started = time.monotonic()
        watch = self._watch(started, entries)
        items = [entry.item(cancelled=entry.request.id in state.revoked) for entry in entries]
        self._task.stats.begin(item.job_id for item in items)
        self._consumer.pool.apply_async(
            child.run_batch,
            args=(items, child.epoch.current),
            accept_callback=on_accepted,
            callback=on_results,
            error_callback=on_crash,
            correlation_id=entries[0].request.id,
        )

    def _watch(self, started: float, entries: list[Entry]) -> Any:
        """See to it that a batch ends though its child hangs where it has no time limit of its own.

        The child may have to finish a batch of an earlier connection first.
        """
        timeout, attempts = self._task.settings.batch_timeout, len(entries) if entries[0].repeated else 1
        earlier = time_limit(timeout, [MAX_COST_MS])
        seconds = earlier + time_limit(attempts * timeout, (entry.cost_ms for entry in entries)) + _GRACE
        watch = self._consumer.timer.call_repeatedly(seconds, self._overdue, (started, 1.5 * seconds))
        self._watches.add(watch)
        return watch

    def _unwatch(self, watch: Any) -> None:
        watch.cancel()
        self._watches.discard(watch)

    def _overdue(self, started: float, hopeless: float) -> None:
        """End the child of a batch that takes too long, and the worker if that did not end the batch."""
        seconds = time.monotonic() - started
        self.end_children(seconds)
        if seconds > hopeless:
            logger.error("The pool does not know that the child has ended: the worker ends, to be replaced")
            self._task.shutdown.fail()
            os.kill(os.getpid(), signal.SIGTERM)

    def end_children(self, seconds: float) -> None:
        """Kill a child whose batch takes too long; the pool reports the batch as crashed."""
        logger.error("A batch has taken %.0f s: its child is ended", seconds)
        for pid in self._consumer.pool.info["processes"]:
            with contextlib.suppress(ProcessLookupError):  # It has just ended by itself.
                os.kill(pid, signal.SIGKILL)

    def _on_results(self, entries: list[Entry], results: Sequence[Result], seconds: float) -> None:
        settled, put_back = [], []
        for entry, result in zip(entries, results, strict=True):
            if result == PUT_BACK:
                put_back.append(entry)
            elif result == NOT_SERVED:
                self._set_aside(entry)
            elif result == ALONE:
                entry.repeated = True
                state.active_requests.discard(entry.request)
                self._buffer.add(entry)
            else:
                settled.append(entry)
                _announce(entry, result, seconds)
        if put_back:
            self._put_back(put_back)
        else:
            self._pause = 0.0
        self._done(settled)

    def _on_crash(self, entries: list[Entry], failure: Any) -> None:
        """The child died, hung or raised: each job of its batch is tried again alone."""
        logger.error("A batch of %d ended without a result: %s", len(entries), failure.exception)
        for entry in entries:
            entry.repeated = True
            state.active_requests.discard(entry.request)
            self._task.leases.suspect(entry.delivery.message.delivery_tag)
        self._buffer.put_back(entries)
        self._done([])

    def _put_back(self, entries: list[Entry]) -> None:
        """Storage or Redis is down: keep the jobs, and let the next batch find out after a pause."""
        for entry in entries:
            state.active_requests.discard(entry.request)
        self._buffer.put_back(entries)
        self._pause = min(LONGEST_PAUSE, max(SHORTEST_PAUSE, 2 * self._pause))
        logger.warning(
            "%d jobs put back: storage or Redis is down; again in %.2f s", len(entries), self._pause
        )
        if not self._paused:
            self._paused = True
            self._consumer.timer.call_after(self._pause, self._go_on)

    def _go_on(self) -> None:
        self._paused = False
        self._dispatch()

    def _set_aside(self, entry: Entry) -> None:
        """Storage serves others but not this image: keep the job out of the way, and try it again later."""
        state.active_requests.discard(entry.request)
        pause = SHORTEST_ABSENCE * 2**entry.misses
        entry.misses += 1
        self._absent += 1
        logger.warning("%s was not served by storage; again in %.0f s", entry.key, pause)
        self._consumer.timer.call_after(pause, self._bring_in, (entry,))

    def _bring_in(self, entry: Entry) -> None:
        self._absent -= 1
        self._buffer.add(entry)
        self._dispatch()

    def _done(self, entries: list[Entry]) -> None:
        """Free the slot, acknowledge the messages that are complete, start the next batch."""
        self._free += 1
        self.progress += 1
        if self._stale:
            return
        for entry in entries:
            entry.delivery.open -= 1
            if not entry.delivery.open:
                self._complete.append(entry.delivery.message)
                self._messages -= 1
        self._held -= len(entries)
        self.acknowledge()
        self._dispatch()
        self._limit_prefetch()

    def _limit_prefetch(self) -> None:
        """Bound the jobs held, where Celery bounds messages: a message may carry up to 16 jobs.

        And take no more of a lane while what waits of it here is work enough for a batch: others may be idle.
        """
        if self._channel is not None:
            self._channel.pause(QUEUES[lane] for lane in self._buffer.full())
        room = max(0, self._consumer.initial_prefetch_count - self._held)
        self._consumer.qos.value = max(1, self._messages + len(self._complete) + room)


class ClassifyTask(Task):  # type: ignore[misc]  # Celery has no types
    """The one task. Its strategy gathers messages into batches; no message is ever run by itself."""

    name = CLASSIFY
    typing = False
    batcher: Batcher | None = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.leases = Leases()
        self.shutdown = Shutdown()
        self.stats = Stats()

    def Strategy(self, task: ClassifyTask, app: Any, consumer: Any) -> Any:  # noqa: N802 - Celery's name
        """Return the function that Celery calls with each message."""
        child.epoch.begin()
        # Before the first message, which Redis may record and the connection not survive.
        task.leases.renew(consumer.connection.default_channel)
        if task.batcher:
            task.batcher.close()
        task.batcher = Batcher(task, app, consumer)
        return task.batcher.receive


def _announce(entry: Entry, result: Result, seconds: float) -> None:
    """Tell Celery's books and events what became of the job."""
    request = entry.request
    if result is JobState.CANCELLED and request.id in state.revoked:
        request.revoked()
    elif result is JobState.FAILED:
        state.task_ready(request)
        request.send_event("task-failed", exception="the image cannot be classified", traceback="")
    else:
        request.on_success((False, str(result or "unknown"), seconds))
