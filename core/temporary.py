"""Temporary files of commands that keep lists on disk: errors name their folder."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import BackupError


@contextmanager
def temporary_files() -> Iterator[None]:
    """Translate errors of temporary files.

    Raises:
        BackupError: one cannot be made, written or read; the message names the folder.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise temporary_file_error(error) from error


def temporary_file_error(error: OSError | sqlite3.OperationalError) -> BackupError:
    """Return what an error of a temporary file, or of a database in one, means to a person."""
    reason = getattr(error, "strerror", None) or str(error)
    return BackupError(
        f"Temporary files cannot be written in {_folder()} ({reason}). Make room there, or name a folder of "
        "a larger disk in the variable TMPDIR; they take 0.3 kB for each job and each object."
    )


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # None of the usual folders takes a file: the reason lists them.
        return "any folder"
