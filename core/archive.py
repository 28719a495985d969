"""Archive of results: an object for each hour of settling, `results/yyyy/mm/dd/hh.jsonl.gz`, times in UTC.

Each line is a job's JSON document (`core.job_document`), in the order of settling. An hour without results
has no object.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Final

from core.errors import ArchiveError
from core.storage import ObjectStore

RESULTS: Final = "results"
"""Folder of the archive in the bucket. Retention does not apply to it."""

HOUR_MS: Final = 3_600_000

_FORMAT: Final = f"{RESULTS}/%Y/%m/%d/%H.jsonl.gz"
_KEY: Final = re.compile(rf"{RESULTS}/\d{{4}}/\d\d/\d\d/\d\d\.jsonl\.gz")
_PIECE: Final = 1024 * 1024  # bytes fetched at a time; unpacked some ten times as many
_GZIP: Final = 31  # zlib's `wbits`: a gzip header


class Archive:
    """Archived hours, each given by its beginning in ms since 1970.

    Methods raise `StorageUnavailableError` as those of `ObjectStore`.
    """

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects

    def hours(self) -> list[int]:
        """Return the archived hours, the oldest first."""
        return sorted(
            _start(key) for page in self._objects.pages(RESULTS) for key in page if _KEY.fullmatch(key)
        )

    def store(self, hour: int, file: IO[bytes]) -> None:
        """Store an hour, unless a larger object of it exists.

        A smaller one was cut off. A larger one holds results that a Redis restored from a backup lacks.
        """
        stored = self._objects.size(_key(hour))
        if stored is None or stored < file.seek(0, 2):
            self._objects.put_file(_key(hour), file)

    def lines(self, hour: int) -> Iterator[bytes]:
        """Yield the lines of an hour, without their ends.

        Raises:
            ArchiveError: the object is damaged; lines before the damage may have been yielded.
        """
        unpacker, rest = zlib.decompressobj(_GZIP), b""
        try:
            for piece in self._objects.pieces(_key(hour), _PIECE):
                *lines, rest = (rest + unpacker.decompress(piece)).split(b"\n")
                yield from lines
        except zlib.error as error:
            raise _damaged(hour) from error
        if not unpacker.eof or rest:
            raise _damaged(hour)


def _key(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour / 1000, UTC):{_FORMAT}}"


def _start(key: str) -> int:
    return round(datetime.strptime(key, _FORMAT).replace(tzinfo=UTC).timestamp() * 1000)


def _damaged(hour: int) -> ArchiveError:
    return ArchiveError(
        f"The archived hour {_key(hour)} is damaged. Restore the object from a backup of the bucket, or move "
        "it out of results/ to go on without it."
    )
