"""Retention sweep, `python -m worker.periodic.retention`: removes old images and rows of the ledger.

Redis itself expires job records. The sweep works on any storage; a lifecycle rule of the bucket is only a
second safeguard. Workers start a sweep every `SWEEP_SECONDS` in a process of its own, because listing and
deleting takes seconds, for which the worker's parent must not wait.
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final

from redis import Redis

from core import logs
from core.errors import RedisUnavailableError, WastestreamError
from core.hours import hour_of
from core.image_days import image_days
from core.jobs import JobState
from core.metrics import RETENTION_IMAGES, RETENTION_ROWS
from core.parent_death import die_with_parent
from core.redis.client import connect
from core.redis.feed import Feed
from core.redis.installation import Installation
from core.redis.job_index import JobIndex
from core.redis.job_store import JobStore
from core.redis.leader import Leader
from core.redis.ledger import Ledger
from core.redis.metrics import MetricStore, Reporter
from core.redis.oom import OomTolerantRedis
from core.settings import Settings, load_settings
from core.shards import Shard
from core.storage import ObjectStore

logger = logging.getLogger(__name__)

SWEEP_SECONDS: Final = 600
"""Seconds between sweeps of all workers."""

CHECK_SECONDS: Final = 60.0
"""Seconds between a worker's checks whether a sweep is due."""

_READ_JOBS: Final = 1000  # jobs read in one pipeline
_NICE: Final = 10  # new images are more urgent than old ones
_HOUR_MS: Final = 3_600_000


class Sweep:
    """Removes images accepted before a given time, unless their jobs are still queued.

    Folders in storage are `images/{camera}/{yyyy}/{mm}/{dd}`, also the folder of shared objects, and names in
    them begin with the time of acceptance. So a sweep lists the folders, and the files of due days, never the
    whole bucket. A sweep that was killed needs no repair, and images that were stored but never accepted are
    removed as well.
    """

    def __init__(self, jobs: JobStore, objects: ObjectStore) -> None:
        self._jobs = jobs
        self._objects = objects

    def run(self, before_ms: int) -> int:
        """Remove images of jobs accepted before `before_ms`; return their number.

        Raises:
            StorageUnavailableError, RedisUnavailableError: some images may have been removed.
        """
        return sum(self._sweep_day(folder, before_ms) for folder in image_days(self._objects, before_ms))

    def _sweep_day(self, folder: str, before_ms: int) -> int:
        removed = 0
        for keys in self._objects.pages(folder):
            shards = [Shard.at(key) for key in keys]
            due = [shard for shard in shards if shard is not None and shard.accepted_ms < before_ms]
            removable = self._without_queued(due)
            self._objects.delete_many([shard.key for shard in removable])
            removed += sum(shard.count for shard in removable)
            if shards and (shards[-1] is None or shards[-1].accepted_ms >= before_ms):
                break  # Listings are ordered by name, and so by time.
        return removed

    def _without_queued(self, shards: Sequence[Shard]) -> list[Shard]:
        """Return the shards that have no image of a queued job."""
        ids = [job_id for shard in shards for job_id in shard.job_ids]
        queued = {
            job.id
            for at in range(0, len(ids), _READ_JOBS)
            for job in self._jobs.read_many(ids[at : at + _READ_JOBS])
            if job is not None and job.state is JobState.QUEUED
        }
        return [shard for shard in shards if queued.isdisjoint(shard.job_ids)]


class Sweeper:
    """Starts sweeps from a worker's parent, one every `SWEEP_SECONDS` among all workers."""

    def __init__(self, client: Redis) -> None:
        self._leader = Leader(client, "retention", socket.gethostname(), seconds=SWEEP_SECONDS)
        self._process: subprocess.Popen[bytes] | None = None

    def start_if_due(self) -> None:
        """Start a sweep if one is due; never raise, never wait."""
        if self._process is not None and self._process.poll() is None:
            return
        try:
            if self._leader.acquire():
                self._process = subprocess.Popen([sys.executable, "-m", "worker.periodic.retention"])
        except (RedisUnavailableError, OSError) as error:
            logger.warning("The retention sweep is postponed: %s", error)


def sweep(settings: Settings) -> None:
    """Remove images and rows of the ledger older than their retention, and entries of expired jobs."""
    client = connect(settings.redis, kind=OomTolerantRedis)
    objects = ObjectStore(settings)
    Installation(client, objects).compare(
        make=False
    )  # A Redis that lost its data has no record of queued jobs.
    now = time.time_ns() // 1_000_000
    images = Sweep(JobStore(client), objects).run(now - round(settings.image_retention_hours * _HOUR_MS))
    Feed(client).forget()
    JobIndex(client).forget(now - round(settings.retention_hours * _HOUR_MS))
    rows = Ledger(client).forget(hour_of(now - round(settings.ledger_retention_days * 24 * _HOUR_MS)))
    RETENTION_IMAGES.add(by=images)
    RETENTION_ROWS.add(by=rows)
    MetricStore(client).swept(time.time_ns() // 1_000_000)
    if images or rows:
        logger.info("Removed %d images and %d rows of the ledger", images, rows)


def main() -> int:
    """Sweep once; return the exit code."""
    die_with_parent()
    os.nice(_NICE)
    try:
        settings = load_settings()
        logs.set_up(settings.log_level, "retention")
        sweep(settings)
        Reporter(connect(settings.redis, kind=OomTolerantRedis)).report()
    except WastestreamError as error:
        sys.stderr.write(f"The retention sweep stopped: {error} The next one continues.\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
