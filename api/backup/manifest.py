"""Manifest of a backup, `manifest.json`: written last, so a backup without it is incomplete."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any, Final, NamedTuple, Self

from api.backup.target import Target
from core.errors import BackupError
from core.temporary import temporary_files

MANIFEST: Final = "manifest.json"
MARK: Final = "installation"
"""File with the id of the installation that a place is for: written first."""

OBJECTS: Final = "objects/"
"""Beginning of the names of copied objects; the rest is the object's key."""

_FORMAT: Final = 1


class StoredFile(NamedTuple):
    """A copied object: its key, bytes and SHA-256 (hexadecimal)."""

    key: str
    size: int
    digest: str

    @property
    def name(self) -> str:
        """Its name in the target."""
        return OBJECTS + self.key

    def to_line(self) -> bytes:
        """Return it as a line of JSON."""
        return json.dumps(self).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> StoredFile:
        """Return the file of a line."""
        return cls(*json.loads(line))


class Lines:
    """Lines of a listing, which can be read several times."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        with gzip.GzipFile(fileobj=self._file) as lines:
            yield from lines


@dataclass(frozen=True, slots=True)
class Listing:
    """A file of the backup with lines of JSON, packed by gzip: its name, SHA-256 and number of lines."""

    name: str
    digest: str
    lines: int

    @contextmanager
    def read(self, target: Target) -> Iterator[Lines]:
        """Check the file; the lines are those of a temporary copy.

        Raises:
            BackupError: it is missing or damaged, or the disk of temporary files is full.
        """
        file, digest = self._fetch(target)
        with file:
            if digest != self.digest:
                raise BackupError(
                    f"The backup {target.place} is damaged: {self.name} is "
                    f"{'missing' if digest is None else 'not what was written'}. Use another backup."
                )
            yield Lines(file)

    def _fetch(self, target: Target) -> tuple[IO[bytes], str | None]:
        """Return a temporary copy of the file, and its digest."""
        with temporary_files(), ExitStack() as files:
            file = files.enter_context(tempfile.TemporaryFile())
            digest = target.digest(self.name, file)
            file.flush()
            files.pop_all()
        return file, digest


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes:
        installation: id of the installation.
        taken_ms: its moment, ms since 1970, by Redis' clock.
        redis: lines of `core.redis.snapshot.Entry`.
        objects: lines of `StoredFile`.
        waiting, settled: number of jobs.
        expired: settled jobs whose images retention had removed.
        lost: waiting jobs whose images were not in storage.
    """

    installation: str
    taken_ms: int
    redis: Listing
    objects: Listing
    waiting: int
    settled: int
    expired: int
    lost: int

    def write(self, target: Target) -> None:
        """Write it: the backup is complete."""
        text = json.dumps({"format": _FORMAT, **asdict(self)}, indent=1)
        target.put(MANIFEST, text.encode())

    def files(self, target: Target) -> Iterator[StoredFile]:
        """Yield the copied objects; raises as `Listing.read`."""
        with self.objects.read(target) as lines:
            yield from map(StoredFile.from_line, lines)

    @classmethod
    def read(cls, target: Target) -> Self | None:
        """Return the manifest of a place; None if it has none.

        Raises:
            BackupError: it is damaged, or of a later version.
        """
        text = target.get(MANIFEST)
        if text is None:
            return None
        try:
            members: dict[str, Any] = json.loads(text)
            number = members.pop("format")
            if number == _FORMAT:
                redis, objects = Listing(**members.pop("redis")), Listing(**members.pop("objects"))
                return cls(**members, redis=redis, objects=objects)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BackupError(
                f"The backup {target.place} is damaged: {MANIFEST} cannot be read. Use another backup."
            ) from error
        raise BackupError(
            f"The backup {target.place} has the format {number}, of a later version of wastestream; "
            "restore it with that."
        )
