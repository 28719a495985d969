"""Makes a backup of a running installation: Redis first, then the objects that it names."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Final

from api.backup.manifest import MARK, OBJECTS, Listing, Manifest, StoredFile
from api.backup.target import Target, sha256
from core.archive import RESULTS
from core.errors import BackupError, ObjectNotFoundError
from core.ids import TIME_DIGITS, new_job_id, packed_id
from core.image_days import image_days
from core.image_header import MAX_BYTES
from core.jobs import JobState
from core.redis.client import connect
from core.redis.installation import Installation
from core.redis.snapshot import Entry, Snapshot
from core.settings import Settings
from core.shards import Shard
from core.storage import ObjectStore

_THREADS: Final = 8
_PIECE: Final = 1024 * 1024  # bytes fetched at a time
_SLACK_MS: Final = 60_000  # by which clocks of the API and Redis may differ


class Backup:
    """Copies an installation into a target. A second backup into the same target copies new objects only.

    An upload stores the image before its job is accepted. So storage has the image of every job in a
    snapshot, unless retention has removed it since.

    Args:
        settings: of the installation.
        target: place of the backup.
        say: prints a line.
    """

    def __init__(self, settings: Settings, target: Target, say: Callable[[str], None]) -> None:
        self._client = connect(settings.redis, timeout=30, lossless=True)
        self._objects = ObjectStore(settings)
        self._target = target
        self._say = say
        self._shards: dict[bytes, bool] = {}  # of the jobs in the snapshot: whether one waits
        self._settled = 0

    def run(self) -> Manifest:
        """Make the backup; return its manifest.

        Raises:
            BackupError, DataLostError, RedisUnavailableError, StorageUnavailableError: the target keeps the
                previous backup, if it has one.
        """
        mark = Installation(self._client, self._objects).compare(make=False)
        if mark is None:
            raise BackupError("There is nothing to back up: the API has never been started.")
        before = self._open(mark)
        snapshot = Snapshot(self._client)
        backup_id = new_job_id()
        redis = self._list(f"redis-{backup_id}.jsonl.gz", self._lines(snapshot))
        waiting = sum(map(len, snapshot.pending.values()))
        self._say(f"Redis: {waiting:,} waiting and {self._settled:,} settled jobs")
        copied = self._copy(snapshot.taken_ms, before)
        objects = self._list(
            f"objects-{backup_id}.jsonl.gz", (f"{json.dumps(file)}\n".encode() for file in copied)
        )
        manifest = Manifest(
            installation=mark,
            taken_ms=snapshot.taken_ms,
            redis=redis,
            objects=objects,
            waiting=waiting,
            settled=self._settled,
            expired=sum(not waits for waits in self._shards.values()),
            lost=sum(self._shards.values()),
        )
        manifest.write(self._target)
        self._prune(manifest, copied)
        return manifest

    def _open(self, mark: str) -> dict[str, StoredFile]:
        """Reserve the target for this installation; return the objects of its previous backup, by key.

        Raises:
            BackupError: it holds other files, or a backup of another installation.
        """
        place = self._target.place
        known = self._target.get(MARK)
        if known is None:
            if not self._target.is_empty():
                raise BackupError(f"{place} holds other files: name an empty place, or one with a backup.")
            self._target.put(MARK, mark.encode())
        elif known.decode("ascii", "replace") != mark:
            raise BackupError(
                f"{place} holds a backup of another installation, such as the one before a restoration: "
                "name another place."
            )
        manifest = Manifest.read(self._target)
        return {} if manifest is None else {file.key: file for file in manifest.files(self._target)}

    def _lines(self, snapshot: Snapshot) -> Iterator[bytes]:
        for entry in snapshot.entries():
            self._note(entry)
            yield entry.to_line()

    def _note(self, entry: Entry) -> None:
        """Note which objects the snapshot names."""
        job_id = entry.job_id
        if job_id is not None:
            waits = entry.value["state"] == JobState.QUEUED.value
            self._settled += not waits
            shard = Shard.named(job_id[:TIME_DIGITS] + (entry.value.get("shard") or job_id[TIME_DIGITS:]))
            if shard is not None:
                key = packed_id(shard.id)
                self._shards[key] = waits or self._shards.get(key, False)

    def _list(self, name: str, lines: Iterable[bytes]) -> Listing:
        """Write lines into a file of the target."""
        count = 0
        with tempfile.TemporaryFile() as file:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=3) as packer:
                for line in lines:
                    packer.write(line)
                    count += 1
            return Listing(name, self._put(name, file), count)

    def _put(self, name: str, file: IO[bytes]) -> str:
        file.seek(0)
        digest = sha256(file.read())
        self._target.put(name, file)
        return digest

    def _copy(self, taken_ms: int, before: dict[str, StoredFile]) -> list[StoredFile]:
        """Copy the objects of the snapshot's jobs, and the archive; forget the shards that were found."""
        there = dict(self._target.sizes())
        copied: list[StoredFile] = []
        new = 0

        def copy(item: tuple[str, int]) -> StoredFile | None:
            return self._copy_one(*item, there.get(OBJECTS + item[0]), before.get(item[0]))

        with ThreadPoolExecutor(_THREADS) as pool:
            for page in self._pages(taken_ms):
                for file in pool.map(copy, page):
                    if file is not None:
                        copied.append(file)
                        new += there.get(file.name) != file.size
                        self._forget(file.key)
        self._say(f"Objects: {len(copied):,}, of which {new:,} are new")
        return copied

    def _pages(self, taken_ms: int) -> Iterator[list[tuple[str, int]]]:
        for folder in image_days(self._objects, taken_ms + _SLACK_MS):
            for page in self._objects.sizes(folder):
                yield [(key, size) for key, size in page if size <= MAX_BYTES and self._is_named(key)]
        yield from self._objects.sizes(RESULTS)

    def _is_named(self, key: str) -> bool:
        shard = Shard.at(key)
        return shard is not None and packed_id(shard.id) in self._shards

    def _forget(self, key: str) -> None:
        shard = Shard.at(key)
        if shard is not None:
            self._shards.pop(packed_id(shard.id), None)

    def _copy_one(
        self, key: str, size: int, there: int | None, before: StoredFile | None
    ) -> StoredFile | None:
        """Copy an object unless the target has it; None if storage has lost it meanwhile.

        Objects of images never change. An hour of the archive can only be replaced by a larger one.
        """
        if there == size and before is not None and before.size == size:
            return before
        name = OBJECTS + key
        if there == size and (digest := self._target.digest(name)):  # of a backup that was cut off
            return StoredFile(key, size, digest)
        try:
            data = b"".join(self._objects.pieces(key, _PIECE))
        except ObjectNotFoundError:  # Retention, after the listing.
            return None
        self._target.put(name, data)
        return StoredFile(key, len(data), sha256(data))

    def _prune(self, manifest: Manifest, copied: list[StoredFile]) -> None:
        """Remove what only earlier backups named: retention applies to the copy, too."""
        kept = {file.name for file in copied} | {manifest.redis.name, manifest.objects.name}
        beginnings = (OBJECTS, "redis-", "objects-")
        self._target.delete(
            [name for name, _ in self._target.sizes() if name.startswith(beginnings) and name not in kept]
        )
