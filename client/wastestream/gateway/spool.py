"""The spool: every sampled frame is a file on disk until the server has accepted it.

A frame is safe when `add` returns: its file is written and renamed, then it enters the index in the
transaction that counts it. What becomes of it is one transaction too. Only then its file is deleted, and its
row goes last. So whenever the machine stops, the next start finds each frame in one of these states, and
counts none twice.

While the disk takes nothing, frames wait in memory, within bounds, and changes of the index wait there too.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import chain, takewhile
from pathlib import Path
from typing import Final

from wastestream.gateway.clock import SET_SINCE, elapsed, this_boot
from wastestream.gateway.counts import Changes, Fate, Row
from wastestream.gateway.errors import SpoolError
from wastestream.gateway.frame_files import FrameFiles
from wastestream.gateway.frames import DamagedFrameError, Frame, hour_of
from wastestream.gateway.index import Entry, Order, open_index

logger = logging.getLogger(__name__)

_MEMORY: Final = 64 * 1_048_576
"""Bytes of frames in memory while the disk takes none."""

_LIVE: Final = 30.0
"""Seconds after its capture for which a frame is live: it goes before those of the backlog."""

_DELETED_TOGETHER: Final = 64
"""Frames whose files are deleted in one go."""

_HOURS_KEPT: Final = 24 * 35
"""Hours whose counts are kept, as long as the server keeps its ledger by default."""


@dataclass(frozen=True)
class Limits:
    """Bounds of the spool: bytes of its frames, and seconds for which it keeps them."""

    max_bytes: int
    max_age: float


@dataclass
class _Unwritten:
    """Changes of the index that are not on disk yet."""

    added: dict[str, Entry] = field(default_factory=dict)
    gone: dict[str, None] = field(default_factory=dict)
    counts: Changes = field(default_factory=Counter)
    files: dict[tuple[str, str], str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.gone or self.counts or self.files)


class Spool:
    """Frames that wait for the server. Threads may share it.

    Args:
        folder: its folder, used by one gateway at a time.
        limits: its bounds.

    Attributes:
        gateway: id of the gateway, made with the spool: what it counts is kept under this id.

    Raises:
        SpoolError: the folder cannot be used, or another gateway uses it.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.limits = limits
        self._lock = threading.RLock()
        self._arrived = threading.Condition(self._lock)
        self._unwritten = _Unwritten()
        self._memory: dict[str, Frame] = {}
        self._taken: set[str] = set()
        self._deletable: list[str] = []
        self._trouble: str | None = None
        self._bytes = 0
        try:
            self._files = FrameFiles(folder)
            self._index = open_index(folder / "index.db")
            self.gateway = self._index.gateway
            self._recover()
        except (OSError, sqlite3.Error) as error:
            raise SpoolError(
                f"The spool {folder} cannot be used: {error}. Give the gateway a folder that it may write."
            ) from error

    @property
    def trouble(self) -> str | None:
        """Why the disk takes no frames; None while it does."""
        return self._trouble

    @property
    def bytes(self) -> int:
        """Bytes of the frames on disk."""
        return self._bytes

    def add(self, frames: Sequence[Frame]) -> None:
        """Take sampled frames; they are safe on disk, or else in memory, when this returns."""
        with self._lock:
            self._store(frames)
            self._note_sampled(frames)
            self._shrink()
            self._write()
            self._arrived.notify_all()

    def count(self, camera: str, captured_at: float, fate: Fate) -> None:
        """Count a sampled frame that never enters the spool."""
        hour = hour_of(captured_at)
        with self._lock:
            self._unwritten.counts[camera, hour, "sampled"] += 1
            self._unwritten.counts[camera, hour, fate.value] += 1

    def take_live(self, count: int, size: int, without: Collection[str] = ()) -> list[Frame]:
        """Return frames that were captured just now, oldest first, and those that are in memory only.

        Nobody else gets them until `settle`.

        Args:
            count: maximum number.
            size: maximum bytes, unless it is one frame.
            without: cameras whose frames stay.
        """
        with self._lock:
            in_memory = map(_entry, list(self._memory.values()))
            recent = self._index.entries_since(this_boot(), elapsed() - _LIVE)
            live = (entry for entry in chain(in_memory, recent) if entry.camera not in without)
            return self._take(live, count, size)

    def take_backlog(self, count: int, size: int, order: Order, without: Collection[str] = ()) -> list[Frame]:
        """Return frames that are no longer live, the newest or the oldest first; otherwise as `take_live`."""
        with self._lock:
            backlog = (entry for entry in self._waiting(order, without) if not _is_live(entry))
            return self._take(backlog, count, size)

    def settle(self, fates: Mapping[str, Fate], frames: Iterable[Frame]) -> None:
        """Count what became of taken frames, by id, and let them go; put the others back."""
        with self._lock:
            for frame in frames:
                self._taken.discard(frame.id)
                if frame.id in fates:
                    self._let_go(_entry(frame), fates[frame.id])
            self._write()

    def wait(self, seconds: float) -> None:
        """Return when frames have come, or after some seconds."""
        with self._arrived:
            self._arrived.wait(seconds)

    def tidy(self) -> None:
        """Drop frames that were kept for too long; write what could not be written; delete what is gone."""
        with self._lock:
            for entry in list(takewhile(self._may_be_old, self._waiting("oldest"))):
                if entry.kept.age() > self.limits.max_age and entry.id not in self._taken:
                    self._let_go(entry, Fate.DROPPED)
            if self._memory:
                self._store([frame for frame in self._memory.values() if frame.id not in self._taken])
            if self._write():
                self._delete()
                self._keep_house()

    def rows(self) -> list[Row]:
        """Return the counts by camera and hour."""
        with self._lock:
            self._write()
            in_memory = Counter((frame.camera, frame.hour) for frame in self._memory.values())
            return self._index.rows(in_memory)

    def note_reported(self, rows: Sequence[Row]) -> None:
        """Note that the server has these counts. Where that cannot be written, they are reported again."""
        with self._lock:
            try:
                self._index.note_reported(rows)
            except sqlite3.Error as error:
                self._report(error)

    def oldest(self) -> dict[str, float]:
        """Return the seconds since the capture of each camera's oldest frame that waits."""
        with self._lock:
            self._write()
            oldest = {camera: stamp.age() for camera, stamp in self._index.oldest().items()}
            for frame in self._memory.values():
                oldest[frame.camera] = max(oldest.get(frame.camera, 0.0), frame.stamp.age())
        return oldest

    def mark_of(self, camera: str, path: str) -> str | None:
        """Return the mark of a camera's file that was read."""
        with self._lock:
            unwritten = self._unwritten.files.get((camera, path))
            return self._index.mark_of(camera, path) if unwritten is None else unwritten

    def files(self, camera: str) -> dict[str, str]:
        """Return the marks of a camera's files that were read, by path."""
        with self._lock:
            self._write()
            return self._index.files(camera)

    def note_file(self, camera: str, path: str, mark: str) -> None:
        """Note that a camera's file needs no further reading."""
        with self._lock:
            self._unwritten.files[camera, path] = mark
            self._write()

    def keep_files(self, camera: str, paths: AbstractSet[str]) -> None:
        """Forget files of a camera that are not among these."""
        with self._lock:
            if self._write():
                self._index.forget_files(camera, self._index.files(camera).keys() - paths)

    def close(self) -> None:
        """Write what is to be written, and let another gateway use the folder."""
        with self._lock:
            if self._write():
                self._delete()
            self._index.close()
            self._files.close()

    def _store(self, frames: Sequence[Frame]) -> None:
        """Put frames on disk; those that it does not take stay in memory."""
        stored, error = self._files.write(frames)
        if error is not None:
            self._report(error)
        self._memory |= {frame.id: frame for frame in frames}
        for frame in stored:
            del self._memory[frame.id]
            self._unwritten.added[frame.id] = _entry(frame)
            self._bytes += len(frame.data)

    def _note_sampled(self, frames: Iterable[Frame]) -> None:
        for frame in frames:
            self._unwritten.counts[frame.camera, frame.hour, "sampled"] += 1
            if frame.file is not None:
                path, mark = frame.file
                self._unwritten.files[frame.camera, path] = mark

    def _take(self, entries: Iterable[Entry], count: int, size: int) -> list[Frame]:
        frames: list[Frame] = []
        for entry in entries:
            if entry.id in self._taken or entry.id in self._unwritten.gone:
                continue
            size -= entry.size
            if frames and (size < 0 or len(frames) >= count):
                break
            frame = self._memory.get(entry.id) or self._read(entry)
            if frame is not None:
                frames.append(frame)
                self._taken.add(frame.id)
        return frames

    def _waiting(self, order: Order, without: Collection[str] = ()) -> Iterator[Entry]:
        """Yield the frames on disk that wait."""
        unwritten, gone = list(self._unwritten.added.values()), self._unwritten.gone
        for entry in chain(self._index.entries(order, sorted(without)), unwritten):
            if entry.id not in gone and entry.camera not in without:
                yield entry

    def _read(self, entry: Entry) -> Frame | None:
        """Return a frame from disk; None, and count it as dropped, if the disk has lost it."""
        try:
            return self._files.read(entry.id)
        except (FileNotFoundError, DamagedFrameError) as error:
            self._lose(entry, str(error))
        except OSError as error:  # It may be readable again when the disk is.
            self._report(error)
        return None

    def _let_go(self, entry: Entry, fate: Fate) -> None:
        self._unwritten.counts[entry.camera, entry.hour, fate.value] += 1
        if self._memory.pop(entry.id, None) is None:
            self._unwritten.gone[entry.id] = None
            self._bytes -= entry.size

    def _may_be_old(self, entry: Entry) -> bool:
        """Return False for a frame if it and those after it were captured, and so kept, lately."""
        return entry.stamp.wall < max(SET_SINCE, time.time() - self.limits.max_age)

    def _lose(self, entry: Entry, reason: str) -> None:
        """Count a frame that was safe and is not there."""
        extra = {"camera": entry.camera, "frame": entry.id}
        logger.error("The disk lost a frame: %s.", reason, extra=extra)
        self._let_go(entry, Fate.DROPPED)

    def _shrink(self) -> None:
        """Drop the oldest frames beyond the bounds."""
        if self._bytes > self.limits.max_bytes:
            for entry in self._waiting("oldest"):
                if self._bytes <= self.limits.max_bytes:
                    break
                if entry.id not in self._taken:
                    self._let_go(entry, Fate.DROPPED)
        in_memory = sum(len(frame.data) for frame in self._memory.values())
        for frame in list(self._memory.values()):
            if in_memory <= _MEMORY:
                break
            if frame.id not in self._taken:
                in_memory -= len(frame.data)
                self._let_go(_entry(frame), Fate.DROPPED)

    def _write(self) -> bool:
        """Write what is unwritten in one transaction; return whether everything is on disk."""
        changes = self._unwritten
        if changes:
            try:
                self._index.write(
                    added=changes.added.values(),
                    gone=changes.gone,
                    changes=changes.counts,
                    files=[(*name, mark) for name, mark in changes.files.items()],
                )
            except sqlite3.Error as error:
                self._report(error)
                return False
            self._deletable += changes.gone
            self._unwritten = _Unwritten()
            if len(self._deletable) >= _DELETED_TOGETHER:
                self._delete()
        if self._trouble is not None and not self._memory:
            logger.warning("The spool can be written again.")
            self._trouble = None
        return True

    def _delete(self) -> None:
        """Delete the files of frames that are gone, then their rows. In this order nothing comes back."""
        if not self._deletable:
            return
        try:
            self._files.delete(self._deletable)
            self._index.forget(self._deletable)
        except (OSError, sqlite3.Error) as error:
            self._report(error)
        else:
            self._deletable = []

    def _keep_house(self) -> None:
        try:
            self._files.keep_ballast()
            # Hours before are those of a clock that was never set: there are few, and they may be of today.
            self._index.forget_hours(hour_of(SET_SINCE), hour_of(time.time() - _HOURS_KEPT * 3600))
        except (OSError, sqlite3.Error) as error:
            self._report(error)

    def _recover(self) -> None:
        """Bring files and index together after a stop at any moment."""
        frames = self._files.unknown(self._index.ids())
        self._unwritten.added |= {frame.id: _entry(frame) for frame in frames}
        # In the order in which they were sampled: the last one says how far its file was read.
        self._note_sampled(sorted(frames, key=lambda frame: (frame.kept.wall, frame.kept.elapsed)))
        names = self._files.names()
        for entry in list(self._waiting("oldest")):
            self._bytes += entry.size
            if entry.id not in names:
                self._lose(entry, "its file is not there")
        self._deletable = [entry.id for entry in self._index.entries("oldest", gone=True)]
        if not self._write():
            raise SpoolError(f"The spool cannot be written: {self._trouble}. Free or repair its disk.")
        self._delete()

    def _report(self, error: Exception) -> None:
        """Log a disk's failure once, and make room for the index if it is full."""
        self._files.throw_ballast()
        if self._trouble is None:
            logger.error("The spool cannot be written: %s. New frames wait in memory.", error)
            self._trouble = str(error)


def _entry(frame: Frame) -> Entry:
    return Entry(frame.id, frame.camera, frame.hour, len(frame.data), frame.stamp, frame.kept)


def _is_live(entry: Entry) -> bool:
    return entry.stamp.boot == this_boot() and entry.stamp.age() <= _LIVE
