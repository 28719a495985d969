"""Writes recovered jobs into Redis: `RecoveredJobs`. Doing the same again changes nothing.

`ws:recovery` has the archived hours that have been counted, the moment of the backup from which Redis was
restored (`until`, ms), and when the last recovery listed its jobs (`listed`, ms): the list of jobs has them
at that time, not at that of their acceptance.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, cast

import redis

from core.hours import hour_of
from core.ids import accepted_ms
from core.jobs import Job
from core.lanes import BULK
from core.messages import QUEUES
from core.redis import keys
from core.redis.client import translated
from core.redis.job_store import JobStore
from core.redis.ledger import TOTALS
from core.redis.scripts import load_script

_UNBOUNDED: Final = 1_000_000_000  # jobs and cameras: all of them were accepted before
_UNTIL: Final = "until"


class RecoveredJobs:
    """Counts archived jobs, keeps their records, and enqueues jobs that have not settled.

    Args:
        client: Redis.
        retention_hours: retention of results.

    Every method raises `RedisUnavailableError` while Redis is down.
    """

    def __init__(self, client: redis.Redis, *, retention_hours: float) -> None:
        self._client = client
        self._retention_ms = round(retention_hours * 3_600_000)
        self._store = JobStore(
            client, retention_hours=retention_hours, max_queued=_UNBOUNDED, max_cameras=_UNBOUNDED
        )
        self._count = client.register_script(load_script("recover"))
        self._list = client.register_script(load_script("list_recovered"))
        self._mark = client.register_script(load_script("mark_recovered"))

    def until_ms(self) -> int:
        """Return the moment of the backup from which Redis was restored; 0 if it was not."""
        with translated():
            return int(self._client.hget(keys.RECOVERY, _UNTIL) or 0)

    def unknown(self, job_ids: Sequence[str]) -> set[str]:
        """Return the jobs of which Redis has no record."""
        jobs = self._store.read_many(job_ids)
        return {job_id for job_id, job in zip(job_ids, jobs, strict=True) if job is None}

    def count(self, hour: str, counters: Mapping[tuple[str, str, str], int]) -> None:
        """Add an archived hour to the ledger, unless that was done before.

        Args:
            hour: the archived hour.
            counters: hour of acceptance, camera and name of each counter, with its number.
        """
        arguments: list[str | int] = [hour]
        for (accepted, camera, name), number in counters.items():
            arguments += [accepted, camera, name, number, int(name in TOTALS)]
        with translated():
            self._count([keys.RECOVERY, keys.LEDGERS, keys.CAMERAS], arguments)

    def keep(self, jobs: Iterable[Job]) -> list[Job]:
        """Write records of settled jobs, of those within their retention; return these."""
        now = time.time_ns() // 1_000_000
        kept: list[Job] = []
        with translated(), self._client.pipeline(transaction=False) as pipe:
            for job in jobs:
                left = (job.settled_ms or 0) + self._retention_ms - now
                if left > 0:
                    pipe.hset(keys.job(job.id), mapping=_record(job))
                    pipe.pexpire(keys.job(job.id), left)
                    kept.append(job)
            pipe.execute()
        return kept

    def list_settled(self, entries: Iterable[tuple[str, Collection[str]]]) -> int:
        """Append settled jobs to the list of jobs, unless that was done before; return how many were.

        Args:
            entries: name of each shard and ids of its recovered jobs; those without a record are left out.
        """
        arguments: list[str | int] = []
        for name, ids in entries:
            arguments += [name, len(ids), *ids]
        with translated():
            return int(cast(int, self._list([keys.ACCEPTED], arguments)))

    def enqueue(self, jobs: Sequence[Job], message: str) -> None:
        """Accept jobs whose images are one object, of which Redis has no record, all in one step."""
        self._store.accept(jobs, BULK, QUEUES[BULK], [message])

    def mark(self, recovered: Mapping[tuple[str, str], int]) -> None:
        """Set how many jobs of each row, by hour and camera, were recovered, unless more were before.

        From now on the list of jobs has them.
        """
        with translated():
            self._mark(
                [keys.RECOVERY],
                [part for (hour, camera), number in recovered.items() for part in (hour, camera, number)],
            )


def row_of(job_id: str, camera: str) -> tuple[str, str]:
    """Return hour and camera of the row of the ledger that counts a job."""
    return hour_of(accepted_ms(job_id)), camera


def _record(job: Job) -> dict[Any, Any]:
    record: dict[str, Any] = {
        "state": job.state.value,
        "camera": job.camera,
        "format": job.format,
        "size": job.size,
        "captured": job.captured_ms,
        "expires": job.expires_ms,
        "shard": job.shard,
        "settled": job.settled_ms,
        "error": job.error,
        "model": job.model,
        "retry_of": job.retry_of,
    }
    if job.prediction is not None:
        record["label"] = job.prediction.label
        record["probability"] = f"{job.prediction.probability:.6f}"
        record["review"] = int(job.prediction.review)
    return {name: value for name, value in record.items() if value not in {None, ""}}
