"""The spool's index: a SQLite database of the frames on disk, their counts, and the files that were read."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from wastestream.gateway.clock import Stamp
from wastestream.gateway.counts import COUNTERS, Changes, Row

logger = logging.getLogger(__name__)

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS frames (
    id TEXT PRIMARY KEY, camera TEXT NOT NULL, hour TEXT NOT NULL, size INTEGER NOT NULL,
    wall REAL NOT NULL, boot TEXT NOT NULL, elapsed REAL NOT NULL, -- when it was captured
    kept_wall REAL NOT NULL, kept_elapsed REAL NOT NULL, -- when it was sampled
    gone INTEGER NOT NULL DEFAULT 0 -- counted as what became of it; its file may be there still
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_time ON frames (gone, wall);
CREATE INDEX IF NOT EXISTS by_elapsed ON frames (gone, boot, elapsed);
CREATE TABLE IF NOT EXISTS counts (
    camera TEXT NOT NULL, hour TEXT NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL DEFAULT 0" for name in COUNTERS)},
    reported INTEGER NOT NULL DEFAULT 0, -- the server has these counts
    PRIMARY KEY (camera, hour)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS gateway (id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (
    camera TEXT NOT NULL, path TEXT NOT NULL, mark TEXT NOT NULL, PRIMARY KEY (camera, path)
) WITHOUT ROWID;
"""

_COLUMNS: Final = "id, camera, hour, size, wall, boot, elapsed, kept_wall, kept_elapsed"

_INSERT: Final = f"INSERT INTO frames ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants

_ADD: Final = (
    "INSERT INTO counts (camera, hour, {0}) VALUES (?, ?, ?) "
    "ON CONFLICT DO UPDATE SET {0} = {0} + ?, reported = 0"
)

Order = Literal["newest", "oldest"]


@dataclass(frozen=True)
class Entry:
    """A frame in the index, without its bytes."""

    id: str
    camera: str
    hour: str
    size: int
    stamp: Stamp
    kept: Stamp


class Index:
    """The database. Each method that writes is one transaction, on disk when it returns.

    Raises:
        sqlite3.Error: the database cannot be read or written; then nothing has changed.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        (verdict,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            self._database.close()
            raise sqlite3.DatabaseError(verdict)
        self._database.executescript(_SCHEMA)
        if self._database.execute("SELECT 1 FROM gateway").fetchone() is None:
            self._database.execute("INSERT INTO gateway VALUES (?)", (secrets.token_hex(8),))

    @property
    def gateway(self) -> str:
        """Id of the gateway whose counts these are."""
        return str(self._database.execute("SELECT id FROM gateway").fetchone()[0])

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def write(
        self,
        *,
        added: Iterable[Entry] = (),
        gone: Iterable[str] = (),
        changes: Changes | None = None,
        files: Iterable[tuple[str, str, str]] = (),
    ) -> None:
        """Add frames, mark frames as gone, move counters and note files, all or nothing."""
        execute, many = self._database.execute, self._database.executemany
        execute("BEGIN IMMEDIATE")
        try:
            many(_INSERT, map(_values, added))
            many("UPDATE frames SET gone = 1 WHERE id = ?", ((frame,) for frame in gone))
            for (camera, hour, counter), number in (changes or Changes()).items():
                execute(_ADD.format(counter), (camera, hour, number, number))
            many("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", files)
            execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                execute("ROLLBACK")
            raise

    def forget(self, frames: Sequence[str]) -> None:
        """Forget frames whose files are deleted."""
        self._many("DELETE FROM frames WHERE id = ?", ((frame,) for frame in frames))

    def note_reported(self, rows: Iterable[Row]) -> None:
        """Note that the server has these counts; counts that have changed meanwhile are left out."""
        same = " AND ".join(f"{name} = ?" for name in ("camera", "hour", *COUNTERS))
        self._many(
            f"UPDATE counts SET reported = 1 WHERE {same}",  # noqa: S608 - constants
            ((row.camera, row.hour, *(row.counts[name] for name in COUNTERS)) for row in rows),
        )

    def forget_hours(self, since: str, before: str) -> None:
        """Forget the counts of hours between these."""
        self._database.execute("DELETE FROM counts WHERE hour >= ? AND hour < ?", (since, before))

    def entries(self, order: Order, without: Sequence[str] = (), *, gone: bool = False) -> Iterator[Entry]:
        """Yield frames that wait, or those that are gone, by their time, without those of some cameras."""
        direction = "DESC" if order == "newest" else "ASC"
        cameras = ", ".join("?" * len(without))
        where = f"gone = ? AND camera NOT IN ({cameras}) ORDER BY wall {direction}"
        yield from self._entries(where, int(gone), *without)

    def oldest(self) -> dict[str, Stamp]:
        """Return for each camera when the oldest frame that waits was captured."""
        query = "SELECT camera, min(wall), boot, elapsed FROM frames WHERE gone = 0 GROUP BY camera"
        return {camera: Stamp(*times) for camera, *times in self._database.execute(query)}

    def entries_since(self, boot: str, elapsed: float) -> Iterator[Entry]:
        """Yield frames that wait and were captured since a moment after a start of the machine, in order."""
        yield from self._entries("gone = 0 AND boot = ? AND elapsed >= ? ORDER BY elapsed", boot, elapsed)

    def _entries(self, where: str, *values: str | float) -> Iterator[Entry]:
        query = f"SELECT {_COLUMNS} FROM frames WHERE {where}"  # noqa: S608 - made of constants
        with closing(self._database.execute(query, values)) as rows:
            for name, camera, hour, size, wall, boot, elapsed, kept_wall, kept_elapsed in rows:
                captured, kept = Stamp(wall, boot, elapsed), Stamp(kept_wall, boot, kept_elapsed)
                yield Entry(name, camera, hour, size, captured, kept)

    def ids(self) -> set[str]:
        """Return the ids of all frames, the gone ones too."""
        return {name for (name,) in self._database.execute("SELECT id FROM frames")}

    def rows(self, elsewhere: Counter[tuple[str, str]]) -> list[Row]:
        """Return the counts by camera and hour; frames that wait elsewhere count as spooled too."""
        spooled = elsewhere.copy()
        query = "SELECT camera, hour, count(*) FROM frames WHERE gone = 0 GROUP BY camera, hour"
        for camera, hour, number in self._database.execute(query):
            spooled[camera, hour] += number
        names = ", ".join(COUNTERS)
        query = f"SELECT camera, hour, reported, {names} FROM counts ORDER BY camera, hour"  # noqa: S608 - constants
        return [
            Row(
                camera,
                hour,
                {**dict(zip(COUNTERS, numbers, strict=True)), "spooled": spooled[camera, hour]},
                reported=bool(reported),
            )
            for camera, hour, reported, *numbers in self._database.execute(query)
        ]

    def mark_of(self, camera: str, path: str) -> str | None:
        """Return the mark of a camera's file that was read."""
        query = "SELECT mark FROM files WHERE camera = ? AND path = ?"
        row = self._database.execute(query, (camera, path)).fetchone()
        return None if row is None else str(row[0])

    def files(self, camera: str) -> dict[str, str]:
        """Return the marks of a camera's files that were read, by path."""
        return dict(self._database.execute("SELECT path, mark FROM files WHERE camera = ?", (camera,)))

    def forget_files(self, camera: str, paths: Iterable[str]) -> None:
        """Forget files that are no longer there."""
        self._many("DELETE FROM files WHERE camera = ? AND path = ?", ((camera, path) for path in paths))

    def _many(self, statement: str, values: Iterable[tuple[str | int, ...]]) -> None:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            self._database.executemany(statement, values)
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise


def open_index(path: Path) -> Index:
    """Return the index; a damaged one is put aside, and the files of the frames make a new one.

    Raises:
        sqlite3.Error: the disk cannot be read or written.
    """
    try:
        return Index(path)
    except sqlite3.OperationalError:  # the disk, not the database
        raise
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        path.rename(aside)
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        logger.error("The spool's index is damaged (%s); it is now %s, and counts begin anew.", error, aside)  # noqa: TRY400 - a sentence
        return Index(path)


def _values(entry: Entry) -> tuple[str | int | float, ...]:
    captured, kept = entry.stamp, entry.kept
    times = captured.wall, captured.boot, captured.elapsed, kept.wall, kept.elapsed
    return entry.id, entry.camera, entry.hour, entry.size, *times
