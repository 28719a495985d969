"""The place of a backup: a folder, or `s3://bucket/prefix`."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from core.errors import BackupError
from core.temporary import temporary_files

_S3: Final = "s3://"
_PART: Final = 8 * 1024 * 1024  # bytes of a part of a large file
_NOT_S3: Final = re.compile(r"[a-z][a-z0-9+.-]+://")


class Target:
    """Files by name, such as `objects/images/belt/...`. Safe to share between threads.

    A file has its name only when it is complete. For `s3://` the AWS variables of the environment give
    keys, region and, for another server than AWS, `AWS_ENDPOINT_URL`.

    Args:
        place: as a person writes it.
        make: whether a folder that does not exist is made.

    Every method raises `BackupError` if the place cannot be read or written.
    """

    def __init__(self, place: str, *, make: bool) -> None:
        self.place = place
        if _NOT_S3.match(place) and not place.startswith(_S3):
            raise BackupError(f"{place} is no place for a backup: name a folder, or s3://BUCKET/PREFIX.")
        with self._translated():
            self._store = (
                S3Store.from_url(place, client_options={"allow_http": True})
                if place.startswith(_S3)
                else _folder(Path(place), make=make)
            )

    def put(self, name: str, data: bytes | IO[bytes]) -> None:
        """Write a file, given as bytes or as a file; a large one in parts."""
        with self._translated():
            if isinstance(data, bytes):
                obstore.put(self._store, name, data, use_multipart=False)
            else:
                data.seek(0)
                obstore.put(self._store, name, data, chunk_size=_PART, max_concurrency=2)

    def get(self, name: str) -> bytes | None:
        """Return a file's bytes; None if there is none."""
        with self._translated():
            try:
                return bytes(obstore.get(self._store, name).bytes())
            except (NotFoundError, FileNotFoundError):
                return None

    def digest(self, name: str, copy: IO[bytes] | None = None) -> str | None:
        """Return the SHA-256 of a file, hexadecimal; None if there is none.

        Args:
            name: of the file.
            copy: temporary file that takes its bytes, if given.
        """
        digest = hashlib.sha256()
        with self._translated():
            try:
                for piece in obstore.get(self._store, name).stream(min_chunk_size=_PART):
                    digest.update(piece)
                    if copy is not None:
                        with temporary_files():
                            copy.write(piece)
            except (NotFoundError, FileNotFoundError):
                return None
        return digest.hexdigest()

    def sizes(self) -> Iterator[tuple[str, int]]:
        """Yield name and bytes of every file."""
        with self._translated():
            for page in obstore.list(self._store):
                yield from ((item["path"], item["size"]) for item in page)

    def is_empty(self) -> bool:
        """Return whether there is no file."""
        return next(self.sizes(), None) is None

    def delete(self, names: Sequence[str]) -> None:
        """Remove files."""
        with self._translated():
            for at in range(0, len(names), 1000):
                obstore.delete(self._store, names[at : at + 1000])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError) as error:
            reason = " ".join(str(error).partition("\n\nDebug source")[0].split())[:300]
            raise BackupError(
                f"The backup {self.place} cannot be read or written ({reason}). Check the place, its "
                "permissions and its free space."
            ) from error


def sha256(data: bytes) -> str:
    """Return the SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def _folder(path: Path, *, make: bool) -> LocalStore:
    if not path.is_dir() and (path.exists() or not make):
        raise NotADirectoryError(f"{path} is no folder")
    store = LocalStore(path.absolute(), mkdir=make)
    if not os.access(path, os.R_OK | os.X_OK | (os.W_OK if make else 0)):
        user = os.geteuid()
        raise BackupError(
            f"The user {user}, who runs this, may not {'write' if make else 'read'} in {path}. Give that "
            f"user the folder (chown -R {user} {path}), or run this as its owner."
        )
    return store
