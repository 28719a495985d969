"""Writers of results: JSON Lines, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Final

COLUMNS: Final = {
    "id": "VARCHAR",
    "state": "VARCHAR",
    "camera": "VARCHAR",
    "captured_at": "TIMESTAMPTZ",
    "accepted_at": "TIMESTAMPTZ",
    "expires_at": "TIMESTAMPTZ",
    "settled_at": "TIMESTAMPTZ",
    "label": "VARCHAR",
    "probability": "DOUBLE",
    "review": "BOOLEAN",
    "model": "VARCHAR",
    "error": "VARCHAR",
    "retry_of": "VARCHAR",
}
"""Columns of tables to their types in DuckDB: the members of a job, `prediction` as its members."""


Write = Callable[[dict[str, Any]], None]
"""Writes a job's document."""


@contextmanager
def jsonl(file: IO[bytes]) -> Iterator[Write]:
    """Write each job's document as the API shows it, one a line."""

    def write(document: dict[str, Any]) -> None:
        file.write(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    yield write


@contextmanager
def table(file: IO[bytes]) -> Iterator[Write]:
    """Write CSV with a header; absent members are empty."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()

    def write(document: dict[str, Any]) -> None:
        prediction = document["prediction"] or {}
        review = {"review": "true" if prediction["review"] else "false"} if prediction else {}
        writer.writerow({**document, **prediction, **review})

    yield write
    text.flush()
    text.detach()


@contextmanager
def parquet(file: IO[bytes]) -> Iterator[Write]:
    """Write a Parquet file, by way of a temporary CSV file beside it; needs DuckDB.

    Raises:
        ModuleNotFoundError: DuckDB is not installed.
    """
    import duckdb  # noqa: PLC0415 - an extra

    with tempfile.TemporaryDirectory(dir=Path(file.name).parent, prefix=".export-") as folder:
        rows = Path(folder) / "results.csv"
        with rows.open("wb") as spool, table(spool) as write:
            yield write
        with duckdb.connect() as database:
            database.execute("SET TimeZone = 'UTC'")
            database.read_csv(os.fspath(rows), header=True, columns=COLUMNS).write_parquet(file.name)


FORMATS: Final[dict[str, Callable[[IO[bytes]], AbstractContextManager[Write]]]] = {
    "csv": table,
    "jsonl": jsonl,
    "parquet": parquet,
}
"""Writer of each format, as a context; everything is written when the context ends."""
