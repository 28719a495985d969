"""Records and states of jobs: `JobStore`, on Redis. Every change of state is one atomic Lua call."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Sequence
from typing import Final, cast

import redis

from core.errors import (
    DataLostError,
    IdempotencyConflictError,
    RateLimitError,
    TooManyCamerasError,
)
from core.hours import hour_of
from core.ids import accepted_ms, packed_id
from core.jobs import TOO_OLD, Job, JobState, Outcome, Prediction
from core.lanes import LANES, OTHER, max_queued_for
from core.metrics import REDIS_SECONDS, Timer
from core.redis import keys
from core.redis.admission import Accepted, Idempotency, RateLimit, Rejection, Submission, queue_full
from core.redis.client import translated
from core.redis.eta import MEASURES, Place, QueueState
from core.redis.replication import TTL, Replication
from core.redis.scripts import load_script

_PIECE: Final = 250  # records read in one call: some 0.5 ms of Redis
_FIELDS: Final = (
    "state",
    "camera",
    "format",
    "size",
    "captured",
    "expires",
    "shard",
    "settled",
    "label",
    "probability",
    "review",
    "model",
    "error",
    "owner",
    "retry_of",
)
"""Fields of a record that `_job` reads, in its order."""


class JobStore:
    """Accepts, settles and reads jobs. Safe to share between threads, not across a fork.

    Every method raises `RedisUnavailableError` while Redis is down or cannot write.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        retention_hours: float = 168.0,
        max_queued: int = 200_000,
        max_cameras: int = 1_000,
        key_cameras: int = 100,
        replicas: int = 0,
    ) -> None:
        self.client = client
        self.has_withdrawn = True
        """Whether messages of cancelled jobs may be queued, as of the last `settle`; at first unknown."""
        self.installation = ""
        """Id of the installation whose Redis alone accepts jobs; empty for any."""
        self._retention = int(retention_hours * 3600)
        self._max_queued = max_queued
        self._max_cameras = max_cameras
        self._key_cameras = key_cameras
        self.replication = Replication(client, replicas)
        self._accept = client.register_script(load_script("accept"))
        self._settle = client.register_script(load_script("settle"))
        self._begin = client.register_script(load_script("begin"))
        self._forgive = client.register_script(load_script("forgive"))
        self._duplicate = client.register_script(load_script("duplicate"))
        self._read = client.register_script(load_script("read"))

    def accept(
        self,
        jobs: Sequence[Job],
        lane: str,
        queue: str,
        messages: Sequence[str],
        idempotency: Idempotency | None = None,
        *,
        limit: RateLimit | None = None,
    ) -> Accepted:
        """Accept one submission, as `accept_many` does; raise the error that rejects it."""
        (outcome,) = self.accept_many([Submission(jobs, idempotency, limit)], lane, queue, messages)
        if not isinstance(outcome, Accepted):
            raise outcome
        return outcome

    def accept_many(
        self,
        submissions: Sequence[Submission],
        lane: str,
        queue: str,
        messages: Sequence[str],
        *,
        one_call: bool = False,
    ) -> list[Accepted | Rejection]:
        """Record the jobs of each submission as queued, all or nothing of it, and enqueue the messages.

        All is one atomic step. Where one is rejected and another not, messages name jobs that have no record.

        Args:
            submissions: at least one.
            lane: one of `core.lanes.LANES`.
            queue: that lane's list in Redis, which the messages are pushed to.
            messages: from `core.messages`, together naming every job.
            one_call: whether they are of one call and one client. Then the queue must have places for all
                that are new, and their rate limit an image left, or all of these are rejected.

        Returns:
            For each the jobs accepted; where its idempotency key is `known`, nothing was recorded, enqueued
            or taken from the limit. Or the error that rejects it:

            - `IdempotencyConflictError`: the key was used with other bytes.
            - `QueueFullError`: the queue is full for `lane`.
            - `RateLimitError`: nothing is left of the limit.
            - `TooManyCamerasError`: a job's camera is new, and as many are known as may be, or the owner has
              brought as many as one may.

        Raises:
            RedisFullError: Redis has no memory; nothing was accepted.
            NotReplicatedError: too few replicas have confirmed in time; the master has accepted.
            DataLostError: Redis is not that of the installation (any more); nothing was accepted.
        """
        names = [keys.PENDING[lane], keys.PENDING[OTHER[lane]], keys.LEDGERS, keys.CAMERAS]
        names += [keys.SERVICE_RATE, keys.EXPIRING, queue]
        names += [used.redis_key for submission in submissions if (used := submission.idempotency)]
        arguments: list[str | int] = [
            self._retention,
            max_queued_for(lane, self._max_queued),
            self._max_cameras,
            self._key_cameras,
            self.installation,
            len(submissions),
            int(one_call),
        ]
        for submission in submissions:
            arguments += submission.arguments()
        with translated(), Timer(REDIS_SECONDS, "accept"):
            answers = cast(list[str], self.replication.run(self._accept, names, [*arguments, *messages]))
        if answers == ["lost"]:
            raise DataLostError(
                "Redis has lost its data, or is another one than before; nothing was accepted."
            )
        answered = list(zip(submissions, answers, strict=True))
        demand = sum(
            len(new.jobs) for new, answer in answered if one_call and not answer.startswith("known ")
        )
        return [
            self._outcome(submission, lane, answer, demand or len(submission.jobs))
            for submission, answer in answered
        ]

    def _outcome(self, submission: Submission, lane: str, answer: str, demand: int) -> Accepted | Rejection:
        """Read an answer of `accept.lua`; `demand` is the number of places that the call needs."""
        jobs = submission.jobs
        word, _, rest = answer.partition(" ")
        if word == "known" and submission.idempotency:
            return _known(submission.idempotency, rest)
        if word == "cameras":
            return TooManyCamerasError(self._key_cameras if rest == "owner" else self._max_cameras, rest)
        if word == "limited":
            return RateLimitError(float(rest) / 1000)
        now, ahead, others, pauses, *numbers = map(float, rest.split(" "))
        width = len(MEASURES)
        measure, its, of_other, allowance = (numbers[at : at + width] for at in range(0, 4 * width, width))
        pending = {lane: int(ahead), OTHER[lane]: int(others)}
        paused = frozenset(name for name, bit in ((lane, 1), (OTHER[lane], 2)) if int(pauses) & bit)
        state = QueueState.measured(pending, now, measure, {lane: its, OTHER[lane]: of_other}, paused)
        if word == "full":
            return queue_full(state, lane, demand, self._max_queued)
        left, whole_in = (int(allowance[0]), allowance[1] / 1000) if allowance else (None, None)
        places = [state.place(lane, int(ahead) + number) for number in range(len(jobs))]
        return Accepted(jobs, places, left=left, whole_in=whole_in)

    def admit(
        self, used: Sequence[Idempotency], lane: str, images: int
    ) -> list[Accepted | IdempotencyConflictError | None]:
        """Check a call before its images are stored: known idempotency keys, and places in the queue.

        Args:
            used: the idempotency keys of the call, each with its images.
            lane: one of `core.lanes.LANES`.
            images: how many the call has, also without a key.

        Returns:
            For each key what is `known` under it, whose images are counted as duplicates of this hour; or the
            error that it was used with other bytes; or None.

        Raises:
            QueueFullError: the queue is full for the others.
        """
        with translated(), self.client.pipeline(transaction=False) as pipe:
            for idempotency in used:
                pipe.get(idempotency.redis_key)
            QueueState.ask(pipe)
            answers = pipe.execute()
        values, state = answers[: len(used)], QueueState.read(answers[len(used) :])
        outcomes: list[Accepted | IdempotencyConflictError | None] = []
        repeated: list[str] = []
        seen: set[str] = set()
        for idempotency, value in zip(used, values, strict=True):
            outcome = None if value is None else _known(idempotency, value)
            outcomes.append(outcome)
            images -= len(idempotency.cameras) if outcome or idempotency.key in seen else 0
            repeated += idempotency.cameras if isinstance(outcome, Accepted) else ()
            seen.add(idempotency.key)
        if images and state.total + images > max_queued_for(lane, self._max_queued):
            raise queue_full(state, lane, images, self._max_queued)
        if any(isinstance(outcome, Accepted) for outcome in outcomes):
            self.replication.confirm()  # The call that made them may have ended without this.
        if repeated:
            hour, token = hour_of(time.time_ns() // 1_000_000), secrets.token_hex(8)
            with translated():
                self._duplicate([keys.LEDGERS, keys.CAMERAS], [hour, token, *repeated])
        return outcomes

    def known(self, idempotency: Idempotency) -> list[str] | None:
        """Return the ids accepted under this key, or None; unlike `admit` it counts no duplicate.

        Raises:
            IdempotencyConflictError: the key was used with other bytes.
        """
        with translated():
            value = self.client.get(idempotency.redis_key)
        if value is None:
            return None
        ids = idempotency.known_ids(cast(str, value))
        self.replication.confirm()  # as in `admit`
        return ids

    def settle(self, outcomes: Sequence[Outcome], model: str) -> list[JobState | None]:
        """Give each job its terminal state, unless it has one: the first wins.

        Args:
            outcomes: one a job.
            model: id of the model that classified.

        Returns:
            The state of each as it now stands; None where the record is gone. A job that was classified when
            it was too old already is `expired`.
        """
        return self._settle_all(outcomes, model)

    def cancel(self, job_id: str, owner: str = "") -> JobState | None:
        """Settle a job `cancelled` unless it has settled; return its state as it now stands, None if unknown.

        The worker that receives its message afterwards drops it: see `withdrawn`.

        Args:
            job_id: the job's.
            owner: id of the API key that must have sent it, else it is unknown; empty for any.
        """
        return self._settle_all([Outcome(job_id, JobState.CANCELLED)], "", cancels=True, owner=owner)[0]

    def withdrawn(self, job_ids: Sequence[str]) -> set[str]:
        """Return the jobs that were cancelled while their messages were queued.

        Settling such a job `cancelled` once more says that its message has been received.
        """
        if not self.has_withdrawn or not job_ids:
            return set()
        with translated():
            times = self.client.zmscore(keys.WITHDRAWN, list(job_ids))
        return {job_id for job_id, since in zip(job_ids, times, strict=True) if since is not None}

    def _settle_all(
        self, outcomes: Sequence[Outcome], model: str, *, cancels: bool = False, owner: str = ""
    ) -> list[JobState | None]:
        arguments: list[str | int | bytes] = [self._retention, model, int(cancels), TOO_OLD, owner]
        for outcome in outcomes:
            arguments += [outcome.job_id, hour_of(accepted_ms(outcome.job_id)), outcome.state.value]
            arguments += _prediction_fields(outcome.prediction)
            arguments += [outcome.error or "", packed_id(outcome.job_id)]
        with translated(), Timer(REDIS_SECONDS, "settle"):
            withdrawn, *states = self._settle(
                [keys.SERVICE_RATE, keys.WITHDRAWN, keys.EXPIRING, *keys.PENDING.values()], arguments
            )
        self.has_withdrawn = bool(withdrawn)
        return [JobState(state) if state else None for state in states]

    def begin(self, job_id: str) -> JobState | int | None:
        """Count one more start of a job that was delivered before.

        Returns:
            Its state if that is terminal; None if its record is gone; else how often it has
            been started after the first time, this one included.
        """
        with translated():
            answer = self._begin([keys.job(job_id)], [secrets.token_hex(4)])
        if isinstance(answer, int):
            return answer
        return JobState(answer) if answer else None

    def forgive(self, job_ids: Iterable[str]) -> None:
        """Take back one `begin` of each: the job was put back through no fault of its own."""
        names = [keys.job(job_id) for job_id in job_ids]
        if names:
            with translated():
                self._forgive(names, [secrets.token_hex(4)])

    def read(self, job_id: str) -> Job | None:
        """Return the job, or None: never accepted, or past its retention."""
        with translated():
            record = self.client.hmget(keys.job(job_id), _FIELDS)
        return _job(job_id, cast(list[str | None], record))

    def read_many(self, job_ids: Sequence[str]) -> list[Job | None]:
        """Return the jobs in the order asked for, None for each unknown."""
        jobs: list[Job | None] = []
        for at in range(0, len(job_ids), _PIECE):
            piece = job_ids[at : at + _PIECE]
            with translated():  # A script: a pipeline of as many commands takes ten times the CPU here.
                records = self._read([keys.job(job_id) for job_id in piece], _FIELDS)
            jobs += [_job(job_id, record) for job_id, record in zip(piece, records, strict=True)]
        return jobs

    def pending(self) -> int:
        """Return the number of jobs that have not settled."""
        return self.queue().total

    def queue(self) -> QueueState:
        """Return the state of the queue: jobs not settled, and the service rate."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            QueueState.ask(pipe)
            return QueueState.read(pipe.execute())

    def places(self, job_ids: Sequence[str]) -> list[Place | None]:
        """Return each job's place in the queue, None if it has settled."""
        with translated(), self.client.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                for key in keys.PENDING.values():
                    pipe.zrank(key, job_id)
            QueueState.ask(pipe)
            answers = pipe.execute()
        at = len(LANES) * len(job_ids)
        state, ranks = QueueState.read(answers[at:]), iter(answers[:at])
        return [state.place_of([next(ranks) for _ in LANES]) for _ in job_ids]

    def now_ms(self) -> int:
        """Return Redis' clock, milliseconds since 1970."""
        with translated():
            seconds, microseconds = self.client.time()
        return seconds * 1000 + microseconds // 1000

    def ping(self) -> None:
        """Check that Redis answers and can write, and that enough replicas confirm it."""
        with translated():
            self.client.set(keys.PING, "1", ex=TTL)
        self.replication.confirm()


def _known(idempotency: Idempotency, value: str) -> Accepted | IdempotencyConflictError:
    """Return the jobs of an idempotency key, or the error that it was used with other bytes."""
    try:
        return Accepted(known=idempotency.known_ids(value))
    except IdempotencyConflictError as error:
        return error


def _prediction_fields(prediction: Prediction | None) -> list[str | int]:
    if prediction is None:
        return ["", "", ""]
    return [prediction.label, f"{prediction.probability:.6f}", int(prediction.review)]


def _job(job_id: str, record: Sequence[str | None]) -> Job | None:
    (state, camera, form, size, captured, expires, shard, settled) = record[:8]
    (label, probability, review, model, error, owner, retry_of) = record[8:]
    if state is None or camera is None:
        return None
    return Job(
        id=job_id,
        camera=camera,
        format=form or "",
        size=int(size or 0),
        captured_ms=int(captured) if captured else None,
        expires_ms=int(expires) if expires else None,
        shard=shard or "",
        state=JobState(state),
        settled_ms=int(settled) if settled else None,
        prediction=Prediction(label, float(probability or 0), review == "1") if label else None,
        model=model,
        error=error,
        owner=owner or "",
        retry_of=retry_of,
    )
