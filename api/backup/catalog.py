"""Catalogs of a backup and of a recovery, in temporary files: memory does not grow with their entries."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from api.backup.manifest import OBJECTS, StoredFile
from core.ids import packed_id, unpacked_ids
from core.shards import Shard
from core.temporary import temporary_file_error, temporary_files

_CACHE: Final = "-32768"  # KiB of memory, at most
_TIME_BYTES: Final = 6  # of a packed id: its beginning, which is that of all ids of a shard


def _database(*tables: str) -> sqlite3.Connection:
    """Return an empty database in a temporary file, which has no name and ends with it.

    SQLite's own temporary databases lie in a folder that it chooses by other rules than Python.
    """
    with tempfile.NamedTemporaryFile() as file:
        database = sqlite3.connect(file.name, isolation_level=None)
    for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = {_CACHE}"):
        database.execute(f"PRAGMA {pragma}")
    for table in tables:
        database.execute(f"CREATE TABLE {table} WITHOUT ROWID")
    database.execute("BEGIN")  # for all its time: a transaction for each write would take a third longer
    return database


class _Catalog:
    """A database; its methods raise `BackupError` if the disk of temporary files is full."""

    def __init__(self, *tables: str) -> None:
        with temporary_files():
            self._database = _database(*tables)

    def close(self) -> None:
        """Remove it."""
        self._database.close()

    # Without `temporary_files`, which would take as long as a statement.

    def _run(self, statement: str, *values: object) -> int:
        """Run a statement; return the number of rows that it changed."""
        try:
            return self._database.execute(statement, values).rowcount
        except sqlite3.OperationalError as error:
            raise temporary_file_error(error) from error

    def _run_many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        with temporary_files():
            self._database.executemany(statement, rows)

    def _rows(self, statement: str, *values: object) -> Iterator[Any]:
        """Yield rows. Reading may write, too: pages leave memory for the file."""
        with temporary_files():
            yield from self._database.execute(statement, values)

    def _row(self, statement: str, *values: object) -> Any:
        try:
            return self._database.execute(statement, values).fetchone()
        except sqlite3.OperationalError as error:
            raise temporary_file_error(error) from error


class BackupCatalog(_Catalog):
    """Files in the place of a backup, and shards of the jobs in its snapshot. For one thread."""

    def __init__(self) -> None:
        super().__init__(
            "files (name TEXT PRIMARY KEY, size INT, digest TEXT, kept INT)",
            "shards (id BLOB PRIMARY KEY, waits INT)",
        )

    def note_files(self, sizes: Iterable[tuple[str, int]]) -> None:
        """Note files that are there: name and bytes."""
        self._run_many("INSERT INTO files VALUES (?, ?, NULL, 0)", sizes)

    def note_digests(self, files: Iterable[StoredFile]) -> None:
        """Note the digests of files that the previous backup named, if they have its size."""
        self._run_many(
            "UPDATE files SET digest = ? WHERE name = ? AND size = ?",
            ((file.digest, file.name, file.size) for file in files),
        )

    def find(self, key: str) -> tuple[int | None, str | None]:
        """Return bytes and digest of an object's copy, None for what is unknown."""
        found: tuple[int, str | None] | None = self._row(
            "SELECT size, digest FROM files WHERE name = ?", OBJECTS + key
        )
        return found or (None, None)

    def keep(self, file: StoredFile) -> None:
        """Note a file of this backup."""
        self._run("INSERT OR REPLACE INTO files VALUES (?, ?, ?, 1)", file.name, file.size, file.digest)

    def kept(self) -> Iterator[StoredFile]:
        """Yield the files of this backup."""
        rows = self._rows("SELECT name, size, digest FROM files WHERE kept ORDER BY name")
        return (StoredFile(name.removeprefix(OBJECTS), size, digest) for name, size, digest in rows)

    def left(self, beginnings: Sequence[str]) -> Iterator[str]:
        """Yield the names with such a beginning of files that were there, and are not of this backup."""
        rows = self._rows("SELECT name FROM files WHERE NOT kept")
        return (name for (name,) in rows if name.startswith(tuple(beginnings)))

    def add_shard(self, shard: Shard, *, waits: bool) -> None:
        """Note the shard of a job, and whether the job waits."""
        self._run(
            "INSERT INTO shards VALUES (?, ?)"
            " ON CONFLICT (id) DO UPDATE SET waits = max(waits, excluded.waits)",
            packed_id(shard.id),
            waits,
        )

    def has_shard(self, shard: Shard) -> bool:
        """Return whether a shard was added and not removed."""
        return self._row("SELECT 1 FROM shards WHERE id = ?", packed_id(shard.id)) is not None

    def remove_shard(self, shard: Shard) -> None:
        """Forget a shard."""
        self._run("DELETE FROM shards WHERE id = ?", packed_id(shard.id))

    def shards(self) -> tuple[int, int]:
        """Return the number of shards of which no job waits, and of those of which one does."""
        settled, waiting = self._row(
            "SELECT count(*) - coalesce(sum(waits), 0), coalesce(sum(waits), 0) FROM shards"
        )
        return settled, waiting


class RecoveryCatalog(_Catalog):
    """Shards whose objects are in storage, and jobs that the archive has. For one thread."""

    def __init__(self) -> None:
        super().__init__(
            "shards (id BLOB PRIMARY KEY, key TEXT)",
            "archived (id BLOB PRIMARY KEY, alone INT)",
        )

    def add_shard(self, shard: Shard) -> None:
        """Note a shard."""
        self._run("INSERT OR IGNORE INTO shards VALUES (?, ?)", packed_id(shard.id), shard.key)

    def shards(self) -> Iterator[Shard]:
        """Yield the shards, the oldest first."""
        for (key,) in self._rows("SELECT key FROM shards ORDER BY id"):
            if shard := Shard.at(key):
                yield shard

    def shard_of(self, job_id: str) -> Shard | None:
        """Return the shard of a job; None if its object is not in storage."""
        rows = self._rows("SELECT key FROM shards WHERE id BETWEEN ? AND ?", *_moment(job_id))
        shards = filter(None, (Shard.at(key) for (key,) in rows))
        return next((shard for shard in shards if job_id in shard.job_ids), None)

    def add_archived(self, job_id: str) -> bool:
        """Note an archived job; return whether it was new."""
        return self._run("INSERT OR IGNORE INTO archived VALUES (?, 0)", packed_id(job_id)) > 0

    def archived(self, shard: Shard) -> set[str]:
        """Return the archived jobs of a shard."""
        rows = self._rows("SELECT id FROM archived WHERE id BETWEEN ? AND ?", *_moment(shard.id))
        return set(unpacked_ids(b"".join(packed for (packed,) in rows))).intersection(shard.job_ids)

    def note_alone(self, job_ids: Iterable[str]) -> None:
        """Note archived jobs with a record and without an object in storage."""
        self._run_many(
            "UPDATE archived SET alone = 1 WHERE id = ?", ([packed_id(job_id)] for job_id in job_ids)
        )

    def alone(self) -> Iterator[str]:
        """Yield those jobs, the oldest first."""
        for (packed,) in self._rows("SELECT id FROM archived WHERE alone ORDER BY id"):
            yield from unpacked_ids(packed)


def _moment(id_: str) -> tuple[bytes, bytes]:
    """Return the first and the last packed id of the millisecond of an id."""
    packed = packed_id(id_)
    rest = len(packed) - _TIME_BYTES
    return packed[:_TIME_BYTES] + bytes(rest), packed[:_TIME_BYTES] + b"\xff" * rest
