"""Makes a backup of a running installation: Redis first, then the objects that it names."""

from __future__ import annotations

import gzip
import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from io import BufferedRandom
from typing import Final, NamedTuple

from api.backup.catalog import BackupCatalog
from api.backup.manifest import MARK, OBJECTS, Listing, Manifest, StoredFile
from api.backup.parallel import in_threads, pieces
from api.backup.target import Target, sha256
from core.archive import RESULTS
from core.errors import BackupError, ObjectNotFoundError
from core.ids import TIME_DIGITS, new_job_id
from core.image_days import image_days
from core.image_header import MAX_BYTES
from core.jobs import JobState
from core.redis.client import connect
from core.redis.installation import Installation
from core.redis.snapshot import Entry, Snapshot
from core.settings import Settings
from core.shards import Shard
from core.storage import ObjectStore
from core.temporary import temporary_files

_PIECE: Final = 1024 * 1024  # bytes fetched at a time
_SLACK_MS: Final = 60_000  # by which clocks of the API and Redis may differ


class _Wanted(NamedTuple):
    """An object of the backup; whether the target has one of its size, and the digest of that."""

    key: str
    size: int
    is_there: bool
    digest: str | None


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
        self._catalog = BackupCatalog()
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
        with closing(self._catalog):
            return self._make(mark)

    def _make(self, mark: str) -> Manifest:
        self._open(mark)
        snapshot = Snapshot(self._client)
        backup_id = new_job_id()
        redis = self._list(f"redis-{backup_id}.jsonl.gz", self._lines(snapshot))
        waiting = sum(map(len, snapshot.pending.values()))
        self._say(f"Redis: {waiting:,} waiting and {self._settled:,} settled jobs")
        self._copy(snapshot.taken_ms)
        objects = self._list(
            f"objects-{backup_id}.jsonl.gz", (file.to_line() for file in self._catalog.kept())
        )
        expired, lost = self._catalog.shards()
        manifest = Manifest(
            installation=mark,
            taken_ms=snapshot.taken_ms,
            redis=redis,
            objects=objects,
            waiting=waiting,
            settled=self._settled,
            expired=expired,
            lost=lost,
        )
        manifest.write(self._target)
        self._prune(manifest)
        return manifest

    def _open(self, mark: str) -> None:
        """Reserve the target for this installation; note the objects of its previous backup.

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
        self._catalog.note_files(self._target.sizes())
        manifest = Manifest.read(self._target)
        if manifest is not None:
            self._catalog.note_digests(manifest.files(self._target))

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
                self._catalog.add_shard(shard, waits=waits)

    def _list(self, name: str, lines: Iterable[bytes]) -> Listing:
        """Write lines into a file of the target."""
        count = 0
        with temporary_files(), tempfile.TemporaryFile() as file:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0, compresslevel=3) as packer:
                for line in lines:
                    packer.write(line)
                    count += 1
            return Listing(name, self._put(name, file), count)

    def _put(self, name: str, file: BufferedRandom) -> str:
        file.seek(0)
        digest = hashlib.file_digest(file, hashlib.sha256).hexdigest()
        self._target.put(name, file)
        return digest

    def _copy(self, taken_ms: int) -> None:
        """Copy the objects of the snapshot's jobs, and the archive; forget the shards that were found."""
        count = new = 0
        for file, is_new in in_threads(self._copy_one, self._wanted(taken_ms)):
            if file is not None:
                self._catalog.keep(file)
                count += 1
                new += is_new
                shard = Shard.at(file.key)
                if shard is not None:
                    self._catalog.remove_shard(shard)
        self._say(f"Objects: {count:,}, of which {new:,} are new")

    def _wanted(self, taken_ms: int) -> Iterator[_Wanted]:
        for key, size in self._stored(taken_ms):
            there, digest = self._catalog.find(key)
            yield _Wanted(key, size, is_there=there == size, digest=digest)

    def _stored(self, taken_ms: int) -> Iterator[tuple[str, int]]:
        for folder in image_days(self._objects, taken_ms + _SLACK_MS):
            for page in self._objects.sizes(folder):
                yield from ((key, size) for key, size in page if size <= MAX_BYTES and self._is_named(key))
        for page in self._objects.sizes(RESULTS):
            yield from page

    def _is_named(self, key: str) -> bool:
        shard = Shard.at(key)
        return shard is not None and self._catalog.has_shard(shard)

    def _copy_one(self, wanted: _Wanted) -> tuple[StoredFile | None, bool]:
        """Copy an object unless the target has it; return it, None if it is gone, and whether it is new.

        Objects of images never change. An hour of the archive can only be replaced by a larger one.
        """
        key, size, is_there, digest = wanted
        name = OBJECTS + key
        # Without a digest it is of a backup that was cut off.
        if is_there and (digest := digest or self._target.digest(name)):
            return StoredFile(key, size, digest), False
        try:
            data = b"".join(self._objects.pieces(key, _PIECE))
        except ObjectNotFoundError:  # Retention, after the listing.
            return None, False
        self._target.put(name, data)
        return StoredFile(key, len(data), sha256(data)), True

    def _prune(self, manifest: Manifest) -> None:
        """Remove what only earlier backups named: retention applies to the copy, too."""
        kept = {manifest.redis.name, manifest.objects.name}
        names = (name for name in self._catalog.left((OBJECTS, "redis-", "objects-")) if name not in kept)
        for piece in pieces(names):
            self._target.delete(piece)
