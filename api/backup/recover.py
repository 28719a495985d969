"""Recovers jobs from storage: Redis was lost, the images and the archive of results were not.

Names of objects hold camera, day and ids of jobs. A job in the archive has settled; any other image becomes a
job again. Every step may be repeated, so a recovery that was cut off continues when it is run again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

from api.backup.catalog import RecoveryCatalog
from api.backup.costs import image_cost
from api.backup.parallel import pieces
from core.archive import HOUR_MS, Archive
from core.errors import BackupError, DataLostError, ObjectNotFoundError
from core.hours import hour_of
from core.ids import accepted_ms, is_job_id
from core.image_days import image_days
from core.jobs import Job, JobState, Prediction
from core.lanes import BULK
from core.messages import Envelope, make_app
from core.redis.client import connect
from core.redis.installation import RECOVERING, Installation
from core.redis.recovered import RecoveredJobs, row_of
from core.settings import Settings
from core.shards import Shard
from core.storage import ObjectStore
from core.times import parse_rfc3339

UNKNOWN_CAMERA: Final = "unknown"
"""Camera of direct uploads that are not in the archive: the names of their objects do not tell it."""

_DAY_MS: Final = 24 * HOUR_MS
_SLACK_MS: Final = 1_860_000
"""Age at a backup up to which an image's job may be missing in it: a direct upload's, and a minute."""


@dataclass
class Counts:
    """Numbers of a recovery.

    Attributes:
        archived: jobs that the archive has as settled.
        readable: those of them within the retention of results: they can be read and listed.
        enqueued: images that became jobs again: they waited, or settled after the last archived hour, or were
            never accepted.
        unknown_camera: those of them, put into storage directly, whose camera is unknown.
        unreadable: images that are missing in their object, and direct uploads that are no images.
        rows: recovered jobs of each row of the ledger, by all runs.
    """

    archived: int = 0
    readable: int = 0
    enqueued: int = 0
    unknown_camera: int = 0
    unreadable: int = 0
    rows: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def earlier(self) -> int:
        """Images that an earlier run has made jobs of."""
        return self.rows.total() - self.archived - self.enqueued


class Recovery:
    """Recovers the jobs that Redis does not know.

    Args:
        settings: of the installation.
        say: prints a line.
        dry_run: whether to count only.
    """

    def __init__(self, settings: Settings, say: Callable[[str], None], *, dry_run: bool) -> None:
        client = connect(settings.redis, timeout=30)
        self._objects = ObjectStore(settings)
        self._archive = Archive(self._objects)
        self._installation = Installation(client, self._objects)
        self._jobs = RecoveredJobs(client, retention_hours=settings.retention_hours)
        self._envelope = Envelope(make_app(settings))
        self._ledger_ms = round(settings.ledger_retention_days * _DAY_MS)
        self._say = say
        self._dry_run = dry_run
        self._counts = Counts()
        self._catalog = RecoveryCatalog()
        self._until_ms = 0  # moment of the backup from which Redis was restored
        self._before_ms = self._after_ms = 0  # Jobs accepted between these times may be missing.

    def run(self, now_ms: int) -> Counts:
        """Recover; return what was found.

        Raises:
            BackupError: storage belongs to no installation, or a backup is being restored.
            ArchiveError, DataLostError, RedisUnavailableError, StorageUnavailableError: run it again.
        """
        mark = self._begin(now_ms)
        self._until_ms = self._jobs.until_ms()
        self._after_ms = max(0, self._until_ms - _SLACK_MS)
        with closing(self._catalog):
            self._recover()
        if not self._dry_run:
            self._jobs.mark(self._counts.rows)
            if mark is not None:
                self._installation.complete(mark)
        return self._counts

    def _recover(self) -> None:
        objects = images = 0
        for shard in self._shards():
            self._catalog.add_shard(shard)
            objects += 1
            images += shard.count
        self._say(f"Storage: {objects:,} objects with images of {images:,} jobs")
        self._read_archive()
        self._say(f"Archive: {self._counts.archived:,} settled jobs")
        for shards in pieces(self._catalog.shards()):
            self._recover_shards(shards)
        self._say(f"Images that become jobs again: {self._counts.enqueued:,}")
        if not self._dry_run:
            for ids in pieces(self._catalog.alone()):
                self._jobs.list_settled((job_id, [job_id]) for job_id in ids)

    def _begin(self, now_ms: int) -> str | None:
        """Set the time before which jobs may be missing; return the new id of a Redis that has none.

        A new id tells the time at which it was made. After `installation renew` or `restore`, jobs of before
        that time are missing.
        """
        if self._installation.stored() is None:
            raise BackupError("The bucket belongs to no installation: there is nothing to recover from.")
        mark = self._installation.in_redis()
        if mark is not None:
            self._before_ms = accepted_ms(str(self._installation.compare(make=False)))
            return None
        if self._dry_run:
            self._before_ms = now_ms
            return None
        mark = self._installation.begin(RECOVERING)
        self._before_ms = accepted_ms(mark)
        return mark

    def _shards(self) -> Iterator[Shard]:
        """Yield the shards of the missing time whose objects are in storage."""
        for folder in image_days(self._objects, self._before_ms):
            for page in self._objects.pages(folder):
                shards = filter(None, map(Shard.at, page))
                yield from (shard for shard in shards if self._is_missing(shard.accepted_ms))

    def _is_missing(self, ms: int) -> bool:
        return self._after_ms <= ms < self._before_ms

    def _read_archive(self) -> None:
        """Count the archived jobs by row, and keep the records of the latest."""
        since = max(self._after_ms, self._before_ms - self._ledger_ms)
        for hour in self._archive.hours():
            if hour + HOUR_MS <= since or hour >= self._before_ms:
                continue
            counters: Counter[tuple[str, str, str]] = Counter()
            for jobs in pieces(self._archived_jobs(hour)):
                for job in jobs:
                    row = row_of(job.id, job.camera)
                    self._counts.archived += 1
                    self._counts.rows[row] += 1
                    counters.update((*row, name) for name in _counters(job))
                self._keep(jobs)
            if counters and not self._dry_run:
                self._jobs.count(hour_of(hour), counters)

    def _keep(self, jobs: Sequence[Job]) -> None:
        if not self._dry_run:
            shards = {job.id: self._catalog.shard_of(job.id) for job in jobs}
            kept = self._jobs.keep([_with_image(job, shards[job.id]) for job in jobs])
            self._counts.readable += len(kept)
            self._catalog.note_alone(job.id for job in kept if shards[job.id] is None)

    def _archived_jobs(self, hour: int) -> Iterator[Job]:
        """Yield the missing jobs of an archived hour; one that was archived twice, once."""
        for lines in pieces(self._archive.lines(hour)):
            jobs = [job for job in map(_archived_job, lines) if self._is_missing(accepted_ms(job.id))]
            # After a restoration, some of the backup's last jobs are known.
            known = self._known([job.id for job in jobs]) if self._after_ms else set()
            for job in jobs:
                is_old = job.id not in known and (job.settled_ms or 0) < self._before_ms
                if is_old and self._catalog.add_archived(job.id):
                    yield job

    def _known(self, job_ids: Sequence[str]) -> set[str]:
        recent = [job_id for job_id in job_ids if accepted_ms(job_id) < self._after_ms + 2 * _SLACK_MS]
        return set(recent) - self._jobs.unknown(recent)

    def _recover_shards(self, shards: Sequence[Shard]) -> None:
        """Make jobs of the images that are not in the archive; list those that are."""
        archived = {shard.id: self._catalog.archived(shard) for shard in shards}
        missing = {shard.id: set(shard.job_ids) - archived[shard.id] for shard in shards}
        unknown = self._jobs.unknown(sorted(set().union(*missing.values())))
        entries = []
        for shard in shards:
            ids = missing[shard.id]
            # Those with a record were enqueued by an earlier run, or are in the backup.
            recovered = {
                job_id for job_id in ids if job_id in unknown or accepted_ms(job_id) >= self._until_ms
            }
            # An entry of the list is for all jobs of a shard: accepting one writes it.
            accepted = self._enqueue(shard, recovered, unknown) if recovered else 0
            if archived[shard.id] and not accepted and ids <= unknown:
                entries.append((shard.name, archived[shard.id]))
        if not self._dry_run:
            self._jobs.list_settled(entries)

    def _enqueue(self, shard: Shard, ids: set[str], unknown: set[str]) -> int:
        """Make jobs of those of the images that are unknown; return how many of the images are there."""
        images = self._images(shard, ids)
        self._counts.unreadable += len(ids) - len(images)
        self._counts.rows.update(row_of(job.id, job.camera) for job, _ in images)
        new = [(job, cost) for job, cost in images if job.id in unknown]
        self._counts.enqueued += len(new)
        self._counts.unknown_camera += sum(job.camera == UNKNOWN_CAMERA for job, _ in new)
        if new and not self._dry_run:
            keys = [job.image_key for job, _ in new]
            message = self._envelope.message(keys, BULK, [], [cost for _, cost in new])
            self._jobs.enqueue([job for job, _ in new], message)
        return len(images)

    def _images(self, shard: Shard, ids: set[str]) -> list[tuple[Job, int]]:
        """Return a shard's jobs of these ids whose images are there, each with the cost of decoding."""
        try:
            stored = self._objects.get_object(shard.key)
        except ObjectNotFoundError:  # Removed meanwhile, or larger than an image.
            return []
        if shard.count == 1:
            camera = "" if shard.suffix else shard.key.split("/")[1]
            names = [f"{camera or UNKNOWN_CAMERA}/{shard.key.rsplit('/', 1)[1]}"]
        else:
            names = stored.names()
        images = []
        for name in names:
            camera, _, file = name.partition("/")
            job_id, _, image_format = file.partition(".")
            if job_id in ids:
                data = stored.image(f"{shard.key}/{name}" if shard.count > 1 else shard.key)
                cost = image_cost(data)
                if cost is None and camera == UNKNOWN_CAMERA:
                    continue  # The API never accepted it.
                job = Job(job_id, camera, image_format, len(data), shard=shard.suffix)
                images.append((job, cost or 0))
        return images


def _archived_job(line: bytes) -> Job:
    document: dict[str, Any] = json.loads(line)
    prediction = document["prediction"]
    if not is_job_id(document["id"]):
        raise DataLostError(f"The archive has a line that is no job: {line[:80]!r}.")
    return Job(
        id=document["id"],
        camera=document["camera"],
        format="",
        size=0,
        captured_ms=_ms(document["captured_at"]),
        expires_ms=_ms(document["expires_at"]),
        state=JobState(document["state"]),
        settled_ms=_ms(document["settled_at"]),
        prediction=prediction
        and Prediction(prediction["label"], prediction["probability"], review=prediction["review"]),
        model=prediction and prediction["model"],
        error=document["error"],
        retry_of=document["retry_of"],
    )


def _ms(text: str | None) -> int | None:
    moment = parse_rfc3339(text) if text else None
    return None if moment is None else round(moment.timestamp() * 1000)


def _with_image(job: Job, shard: Shard | None) -> Job:
    """Return an archived job with what its image's key tells."""
    if shard is None:
        return job
    # The formats of images in a shared object are in that object: who reads an image finds it without.
    name = shard.key.rpartition(".")[2] if shard.count == 1 else ""
    return replace(job, format=name, shard=shard.suffix)


def _counters(job: Job) -> Iterator[str]:
    yield "received"
    yield job.state.value
    if job.prediction is not None:
        yield job.prediction.label
        if job.prediction.review:
            yield "review"
