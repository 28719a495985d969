"""Past hours of results, and the sink that archives them."""

from __future__ import annotations

from core.archive import HOUR_MS
from core.ids import new_job_id, packed_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.redis import keys
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from core.storage import ObjectStore
from tests.support.feed import recent_of
from worker.sinks.archive import ArchiveSink

PREDICTION = Prediction("biodegradable", 0.912345, review=True)


class Hours:
    """Jobs that settled in past hours: the feed's entries are written with the times of then."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        now = jobs.now_ms() - 10_000  # An hour is archived when it has been over for some seconds.
        self.last = now - now % HOUR_MS - HOUR_MS
        """Beginning of the last hour that is over, ms since 1970."""
        self.entries: list[tuple[int, list[str]]] = []
        """Time and ids of each entry of the feed."""

    def settle(
        self, ms: int, count: int = 1, camera: str = "belt", state: JobState = JobState.CLASSIFIED
    ) -> list[str]:
        """Settle jobs at a time; return their ids."""
        new = [Job(new_job_id(), camera, "jpeg", 100) for _ in range(count)]
        ids = self._jobs.accept(new, "single", "test.queue", ["message"] * count).ids
        good = state is JobState.CLASSIFIED
        self._jobs.settle(
            [Outcome(i, state, PREDICTION if good else None, None if good else "x") for i in ids], "m"
        )
        with self._jobs.client.pipeline() as pipe:
            for job_id in ids:
                pipe.hset(keys.job(job_id), "settled", ms)
            pipe.execute()
        self.entries.append((ms, ids))
        self.write()
        return ids

    def write(self) -> None:
        """Write the feed anew."""
        self._jobs.client.delete(keys.FEED)
        for ms, ids in self.entries:
            packed = b"".join(map(packed_id, ids))
            self._jobs.client.xadd(keys.FEED, {"": packed}, id=f"{ms}-*")


def new_sink(jobs: JobStore, objects: ObjectStore, *, retention_hours: float = 168.0) -> ArchiveSink:
    """Return a sink of a process that has just started."""
    return ArchiveSink(recent_of(jobs), jobs, objects, retention_hours=retention_hours)


def deliver_all(sink: ArchiveSink, cursor: Cursor) -> Cursor:
    """Deliver until nothing is due; return the cursor."""
    while after := sink.deliver(cursor):
        cursor = after
    return cursor
