"""Restores a backup into an empty Redis and an empty bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Final

from api.backup.costs import image_costs
from api.backup.manifest import Manifest, StoredFile
from api.backup.parallel import in_threads, pieces
from api.backup.target import Target, sha256
from core.bucket import ensure_bucket
from core.errors import BackupError
from core.jobs import Job
from core.messages import Envelope, make_app
from core.redis.client import connect
from core.redis.installation import RESTORING, Installation
from core.redis.restoration import Restoration
from core.redis.snapshot import Entry
from core.settings import Settings
from core.shards import IMAGES, Shard
from core.storage import ObjectStore

_SHOWN: Final = 3  # damaged files that a sentence names


class Restorer:
    """Puts a backup into Redis and storage; nothing opens before everything is there.

    Args:
        settings: of the empty Redis and the empty bucket.
        target: place of the backup.
        say: prints a line.
    """

    def __init__(self, settings: Settings, target: Target, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._client = connect(settings.redis, timeout=30)
        self._objects = ObjectStore(settings)
        self._installation = Installation(self._client, self._objects)
        self._restoration = Restoration(self._client)
        self._target = target
        self._say = say

    def run(self, *, skip_damaged: bool) -> Manifest:
        """Restore; return the backup's manifest.

        Args:
            skip_damaged: whether to go on without objects of the backup that are damaged.

        Raises:
            BackupError: there is no complete backup, it is damaged, or Redis or the bucket is not empty.
                Nothing was written.
            RedisUnavailableError, StorageUnavailableError: run it again; it continues.
        """
        manifest = Manifest.read(self._target)
        if manifest is None:
            raise BackupError(
                f"{self._target.place} holds no complete backup: it was cut off, or there never was one. "
                "Run `wastestream backup` to its end, or name another place."
            )
        with manifest.redis.read(self._target) as entries, manifest.objects.read(self._target) as files:
            bad = self._damaged(files, skip_damaged=skip_damaged)
            self._restoration.check_workers()
            ensure_bucket(self._settings)
            mark = self._begin(manifest)
            self._restoration.write(map(Entry.from_line, entries))
            self._say(f"Redis: {manifest.redis.lines:,} entries written")
            self._put_all(file for file in map(StoredFile.from_line, files) if file.name not in bad)
        count = self._restoration.enqueue(Envelope(make_app(self._settings)))
        self._installation.store(mark)
        self._restoration.open(mark, manifest.taken_ms)
        self._say(f"Jobs that wait again: {count:,}")
        return manifest

    def _damaged(self, files: Iterable[bytes], *, skip_damaged: bool) -> set[str]:
        """Compare every file with its digest; return the names of the damaged ones.

        Raises:
            BackupError: there are some, and they shall not be skipped.
        """

        def damaged_name(line: bytes) -> str | None:
            file = StoredFile.from_line(line)
            return None if self._target.digest(file.name) == file.digest else file.name

        bad: dict[str, None] = {}
        count = 0
        for name in in_threads(damaged_name, files):
            count += 1
            if name is not None:
                bad[name] = None
        if bad:
            names = ", ".join(islice(bad, _SHOWN)) + (", ..." if len(bad) > _SHOWN else "")
            what = f"{len(bad):,} of {count:,} files of the backup are damaged or missing ({names})"
            if not skip_damaged:
                raise BackupError(
                    f"{what}. Use another backup, or restore the rest with --skip-damaged: waiting jobs "
                    "without their image settle as failed."
                )
            self._say(f"Left out: {what}.")
        return set(bad)

    def _begin(self, manifest: Manifest) -> str:
        """Check that Redis and the bucket are empty, and close them; return their new id.

        Raises:
            BackupError: they are not, or another backup's restoration was cut off there.
        """
        mark = self._restoration.begun()
        if mark is None:
            self._restoration.check_empty()
        stored = self._installation.stored()
        if stored not in {None, manifest.installation, mark}:
            raise BackupError(
                "The bucket belongs to another installation than the backup. Name an empty bucket."
            )
        if stored is None and mark is None and any(self._objects.folders(IMAGES)):
            raise BackupError("The bucket is not empty: it holds images. Name an empty one.")
        mark = self._installation.begin(RESTORING)
        self._restoration.begin(manifest.redis.digest)
        return mark

    def _put_all(self, files: Iterable[StoredFile]) -> None:
        """Put the objects that storage lacks; note the decode costs of images of waiting jobs."""
        count = 0
        for is_new, costs in in_threads(self._put, self._with_waiting(files)):
            count += is_new
            self._restoration.note_costs(costs)
        self._say(f"Objects: {count:,} put into storage")

    def _with_waiting(self, files: Iterable[StoredFile]) -> Iterator[tuple[StoredFile, list[Job]]]:
        """Yield files, each with its jobs that wait."""
        for piece in pieces(files):
            shards = [Shard.at(file.key) for file in piece]
            ids = [shard.job_ids if shard else [] for shard in shards]
            waiting = {job.id: job for job in self._restoration.waiting([*chain.from_iterable(ids)])}
            for file, of_file in zip(piece, ids, strict=True):
                yield file, [waiting[job_id] for job_id in of_file if job_id in waiting]

    def _put(self, wanted: tuple[StoredFile, list[Job]]) -> tuple[bool, dict[str, int]]:
        """Put an object unless it is there; return whether it was not, and the costs of its waiting jobs."""
        file, jobs = wanted
        is_there = self._objects.size(file.key) == file.size
        if is_there and not jobs:
            return False, {}
        data = self._target.get(file.name)
        if data is None or sha256(data) != file.digest:
            raise BackupError(f"{file.name} of the backup has just been changed. Restore again.")
        if not is_there:
            self._objects.put(file.key, data)
        return not is_there, image_costs(file.key, data, [(job.id, job.image_key) for job in jobs])
