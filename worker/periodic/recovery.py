"""What keeps jobs from being lost with their messages.

kombu pops a message and only then records it as unacknowledged: a worker killed between the two loses the
message, though not the job.
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
from core.redis import keys
from core.redis.job_store import JobStore
from core.redis.leader import Leader
from core.shards import job_id_of

logger = get_logger(__name__)

RECONCILE_SECONDS: Final = 2.0
"""How often one worker looks for lost messages."""

_LEADER_SECONDS: Final = 5  # a leader that was killed is followed by another after this
_GRACE_MS: Final = 2_000
_ONCE_IN: Final = 60.0  # seconds within which no message is sent again twice
_MOST: Final = 10_000  # jobs looked at in one pass; a later pass sees the rest
_MAX_EXPIRED: Final = 1000  # jobs that one pass settles: 10 ms of Redis' time


class Reconciler:
    """Sends again the messages of jobs that are pending, yet neither queued nor with a worker.

    A queue is first in, first out. So a job accepted before the oldest one in its queue has been taken out
    of it; if no worker holds it either, in two passes running, its message is lost. This reads one queue
    entry and what the workers hold, never the whole queue.
    """

    def __init__(self, name: str, jobs: JobStore, broker: Redis, envelope: Envelope) -> None:
        self._leader = Leader(broker, "recovery", name, seconds=_LEADER_SECONDS)
        self._jobs = jobs
        self._broker = broker
        self._envelope = envelope
        self._missing: set[str] = set()
        self._sent: dict[str, float] = {}  # id to when its message was sent again, monotonic seconds

    def run(self) -> int:
        """Do one pass, if this worker leads; return how many messages were sent again."""
        try:
            if not self._leader.lead():
                self._missing.clear()
                return 0
            self._expire()
            return self._send_again(self._lost())
        except (RedisError, RedisUnavailableError) as error:
            logger.warning("Looking for lost messages has to wait: %s", error)
            return 0

    def _expire(self) -> None:
        """Settle what became too old though no worker reached it; its message is dropped when one does."""
        overdue = self._jobs.overdue(_MAX_EXPIRED)
        if overdue:
            self._jobs.settle([Outcome(job_id, JobState.EXPIRED, error=TOO_OLD) for job_id in overdue], "")
            logger.info("%d jobs expired", len(overdue))

    def _lost(self) -> list[tuple[str, str]]:
        """Return (lane, job id) of the jobs missing in this pass and the one before."""
        candidates = [
            (lane, job_id)
            for lane in LANES
            for job_id in self._jobs.pending_before(lane, self._taken_before(lane) - _GRACE_MS, _MOST)
        ]
        held = self._held() if candidates else set()
        missing = [(lane, job_id) for lane, job_id in candidates if job_id not in held]
        self._sent = {
            job_id: sent for job_id, sent in self._sent.items() if time.monotonic() - sent < _ONCE_IN
        }
        lost = [found for found in missing if found[1] in self._missing and found[1] not in self._sent]
        self._missing = {job_id for _, job_id in missing}
        return lost

    def _taken_before(self, lane: str) -> int:
        """Return a time, ms by Redis' clock, before which every job of the lane was taken from its queue."""
        now = self._jobs.now_ms()
        newest = self._jobs.newest_ms(lane)
        if newest is not None and newest > now:
            # The clock was set back. Nobody can say how long ago the jobs were accepted; that they must be
            # missing in two passes is left as the grace.
            now = newest + _GRACE_MS + 1
        for message in reversed(self._broker.lrange(QUEUES[lane], -5, -1)):
            for key in _keys(json.loads(message)):
                accepted = self._jobs.accepted_at(lane, job_id_of(key))
                if accepted is not None:  # None: settled, though its message was delivered twice
                    return accepted
            now = 0  # Messages wait, of jobs that have settled: nothing is known of the rest.
        return now

    def _held(self) -> set[str]:
        """Return the ids of jobs whose messages workers hold."""
        messages = (json.loads(entry)[0] for entry in self._broker.hvals(keys.UNACKED))
        return {job_id_of(key) for message in messages for key in _keys(message)}

    def _send_again(self, lost: list[tuple[str, str]]) -> int:
        jobs = self._jobs.read_many([job_id for _, job_id in lost])
        sent = 0
        # Each goes to the end that is served next, so the youngest goes first and the oldest leads.
        for (lane, _), job in reversed(list(zip(lost, jobs, strict=True))):
            if job is not None and job.state is JobState.QUEUED:
                self._push(lane, job)
                self._sent[job.id] = time.monotonic()
                sent += 1
        if sent:
            logger.warning("Sent %d lost messages again", sent)
        return sent

    def _push(self, lane: str, job: Job) -> None:
        # Not as if delivered before: had a worker begun the job, it would hold the message, or would have
        # returned it.
        # What it costs to decode, no record says; so each runs by itself.
        message = self._envelope.message([job.image_key], lane, [job.expires_ms], [MAX_COST_MS])
        self._broker.rpush(QUEUES[lane], message)


def _keys(message: dict[str, Any]) -> list[str]:
    try:
        return keys_in(message)
    except (ValueError, LookupError, TypeError):
        return []  # Somebody else's message; the worker that receives it discards it.
