"""Restores a backup into an empty Redis and an empty bucket."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from api.backup.costs import image_costs
from api.backup.manifest import Manifest, StoredFile
from api.backup.target import Target, sha256
from core.bucket import ensure_bucket
from core.errors import BackupError
from core.messages import Envelope, make_app
from core.redis.client import connect
from core.redis.installation import RESTORING, Installation
from core.redis.restoration import Restoration
from core.redis.snapshot import Entry
from core.settings import Settings
from core.shards import IMAGES, object_key
from core.storage import ObjectStore

_THREADS: Final = 8
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
        entries = manifest.redis.read(self._target)
        files = manifest.files(self._target)
        good = self._checked(files, skip_damaged=skip_damaged)
        self._restoration.check_workers()
        ensure_bucket(self._settings)
        mark = self._begin(manifest)
        self._restoration.clear()
        self._restoration.write(map(Entry.from_line, entries))
        self._say(f"Redis: {manifest.redis.lines:,} entries written")
        costs = self._put_all(good, self._restoration.queued())
        self._installation.store(mark)
        count = self._restoration.finish(Envelope(make_app(self._settings)), costs, mark, manifest.taken_ms)
        self._say(f"Jobs that wait again: {count:,}")
        return manifest

    def _checked(self, files: Sequence[StoredFile], *, skip_damaged: bool) -> list[StoredFile]:
        """Compare every file with its digest; return the good ones.

        Raises:
            BackupError: some are damaged and shall not be skipped.
        """

        def is_good(file: StoredFile) -> bool:
            return self._target.digest(file.name) == file.digest

        with ThreadPoolExecutor(_THREADS) as pool:
            checked = [*zip(files, pool.map(is_good, files), strict=True)]
        bad = [file.name for file, good in checked if not good]
        if bad:
            names = ", ".join(bad[:_SHOWN]) + (", ..." if len(bad) > _SHOWN else "")
            what = f"{len(bad):,} of {len(files):,} files of the backup are damaged or missing ({names})"
            if not skip_damaged:
                raise BackupError(
                    f"{what}. Use another backup, or restore the rest with --skip-damaged: waiting jobs "
                    "without their image settle as failed."
                )
            self._say(f"Left out: {what}.")
        return [file for file, good in checked if good]

    def _begin(self, manifest: Manifest) -> str:
        """Check that Redis and the bucket are empty, and close them; return their new id.

        Raises:
            BackupError: they are not.
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
        return self._installation.begin(RESTORING)

    def _put_all(self, files: Iterable[StoredFile], queued: Mapping[str, str]) -> dict[str, int]:
        """Put the objects that storage lacks; return the decode costs of images of waiting jobs, by job."""
        waiting: dict[str, list[tuple[str, str]]] = {}
        for job_id, key in queued.items():
            waiting.setdefault(object_key(key), []).append((job_id, key))
        costs: dict[str, int] = {}

        def put(file: StoredFile) -> tuple[bool, dict[str, int]]:
            is_there = self._objects.size(file.key) == file.size
            jobs = waiting.get(file.key, [])
            if is_there and not jobs:
                return False, {}
            data = self._target.get(file.name)
            if data is None or sha256(data) != file.digest:
                raise BackupError(f"{file.name} of the backup has just been changed. Restore again.")
            if not is_there:
                self._objects.put(file.key, data)
            return not is_there, image_costs(file.key, data, jobs)

        count = 0
        with ThreadPoolExecutor(_THREADS) as pool:
            for is_new, found in pool.map(put, files):
                count += is_new
                costs.update(found)
        self._say(f"Objects: {count:,} put into storage")
        return costs
