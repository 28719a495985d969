"""Temporary files of commands that keep lists on disk: errors name their folder."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import BackupError


@contextmanager
def temporary_files() -> Iterator[None]:
    """Translate errors of temporary files, and of databases in them.

    Raises:
        BackupError: one cannot be made, written or read; the message names the folder.
    """
    try:
        yield
    except (OSError, sqlite3.OperationalError) as error:
        raise BackupError(
            f"Temporary files cannot be written in {_folder()} ({_reason(error)}). Make room there, or name "
            "a folder of a larger disk in the variable TMPDIR; they take 0.3 kB for each job and each object."
        ) from error


def _folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # None of the usual folders takes a file: the reason lists them.
        return "any folder"


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
