"""Recovery of lost messages.

kombu pops a message and only then records it as unacknowledged. A worker that is killed between the two loses
the message, but the job's record remains.
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

from celery.utils.log import get_logger
from redis import Redis
from redis.exceptions import RedisError

from core.cost import MAX_COST_MS
from core.errors import RedisUnavailableError
from core.jobs import TOO_OLD, Job, JobState, Outcome
from core.lanes import LANES
from core.messages import QUEUES, Envelope, keys_in
from core.metrics import RECOVERED
from core.redis import keys
from core.redis.job_store import JobStore
from core.redis.leader import Leader
from core.redis.pauses import Pauses
from core.redis.pending import PendingJobs
from core.shards import job_id_of

logger = get_logger(__name__)

RECONCILE_SECONDS: Final = 2.0
"""Seconds between searches for lost messages, by one worker."""

_LEADER_SECONDS: Final = 5  # a leader that was killed is followed by another after this
_GRACE_MS: Final = 2_000
_RESEND_SECONDS: Final = 60.0  # before the same message is sent again
_MAX_CANDIDATES: Final = 10_000  # jobs checked in one pass; a later pass checks the rest
_MAX_EXPIRED: Final = 1000  # jobs that one pass settles: 10 ms of Redis' time


class Reconciler:
    """Sends the messages of jobs again that are pending, but neither queued nor with a worker.

    A queue is first in, first out. So a job accepted before the oldest one in its queue has been taken from
    it; if no worker has its message in two successive passes, the message is lost. This reads the oldest
    queue entries and the unacknowledged messages, never the whole queue. Lanes that are paused are searched
    once they are resumed: nothing is taken from them, so the place in the queue proves nothing.
    """

    def __init__(self, name: str, jobs: JobStore, broker: Redis, envelope: Envelope) -> None:
        self._leader = Leader(broker, "recovery", name, seconds=_LEADER_SECONDS)
        self._jobs = jobs
        self._pending = PendingJobs(jobs.client)
        self._broker = broker
        self._pauses = Pauses(broker)
        self._envelope = envelope
        self._missing: set[str] = set()
        self._sent: dict[str, float] = {}  # id to when its message was sent again, monotonic seconds

    def run(self) -> int:
        """Do one pass if this worker leads; return the number of messages sent again."""
        try:
            if not self._leader.lead():
                self._missing.clear()
                return 0
            self._expire()
            return self._send_again(self._lost())
        except (RedisError, RedisUnavailableError) as error:
            logger.warning("The search for lost messages is postponed: %s", error)
            return 0

    def _expire(self) -> None:
        """Settle jobs that became too old in the queue; a worker drops their messages later."""
        overdue = self._pending.expired_before(self._jobs.now_ms(), _MAX_EXPIRED)
        if overdue:
            self._jobs.settle([Outcome(job_id, JobState.EXPIRED, error=TOO_OLD) for job_id in overdue], "")
            logger.info("%d jobs expired", len(overdue))

    def _lost(self) -> list[tuple[str, str]]:
        """Return (lane, job id) of the jobs missing in this pass and the one before."""
        paused = self._pauses.paused()
        candidates = [
            (lane, job_id)
            for lane in LANES
            if lane not in paused
            for job_id in self._pending.accepted_before(
                lane, self._taken_before(lane) - _GRACE_MS, _MAX_CANDIDATES
            )
        ]
        held = self._held() if candidates else set()
        missing = [(lane, job_id) for lane, job_id in candidates if job_id not in held]
        self._sent = {
            job_id: sent for job_id, sent in self._sent.items() if time.monotonic() - sent < _RESEND_SECONDS
        }
        lost = [
            (lane, job_id) for lane, job_id in missing if job_id in self._missing and job_id not in self._sent
        ]
        self._missing = {job_id for _, job_id in missing}
        return lost

    def _taken_before(self, lane: str) -> int:
        """Return a time, ms of Redis' clock: jobs of the lane accepted before it have left the queue."""
        now = self._jobs.now_ms()
        newest = self._pending.newest_ms(lane)
        if newest is not None and newest > now:
            # The clock was set back, so the age of the jobs is unknown. They must still be missing in two
            # passes.
            now = newest + _GRACE_MS + 1
        for message in reversed(self._broker.lrange(QUEUES[lane], -5, -1)):
            for key in _keys(json.loads(message)):
                accepted = self._pending.accepted_ms(lane, job_id_of(key))
                if accepted is not None:  # None: settled, but its message was delivered twice
                    return accepted
            now = 0  # Only messages of settled jobs were read: the age of the others is unknown.
        return now

    def _held(self) -> set[str]:
        """Return the ids of jobs whose messages are with workers."""
        messages = (json.loads(entry)[0] for entry in self._broker.hvals(keys.UNACKED))
        return {job_id_of(key) for message in messages for key in _keys(message)}

    def _send_again(self, lost: list[tuple[str, str]]) -> int:
        jobs = self._jobs.read_many([job_id for _, job_id in lost])
        sent: list[str] = []
        # Each goes to the end that is served next: the youngest is sent first, so the oldest leads.
        for (lane, _), job in reversed(list(zip(lost, jobs, strict=True))):
            if job is not None and job.state is JobState.QUEUED:
                self._push(lane, job)
                self._sent[job.id] = time.monotonic()
                sent.append(job.id)
        if sent:
            RECOVERED.add(by=len(sent))
            logger.warning("Sent %d lost messages again", len(sent), extra={"job_ids": sent})
        return len(sent)

    def _push(self, lane: str, job: Job) -> None:
        # Not marked as redelivered: a worker that had started the job would have the message, or would have
        # returned it. The decode cost is not in the job's record; the maximum makes the job run by itself.
        message = self._envelope.message([job.image_key], lane, [job.expires_ms], [MAX_COST_MS])
        self._broker.rpush(QUEUES[lane], message)


def _keys(message: dict[str, Any]) -> list[str]:
    try:
        return keys_in(message)
    except (ValueError, LookupError, TypeError):
        return []  # A foreign message, which the worker that receives it discards.
