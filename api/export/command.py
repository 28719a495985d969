"""The command `export`."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

import click

from api.export.formats import FORMATS
from api.export.holes import Holes
from api.export.results import Results, Selection
from api.options import camera as camera_option
from api.options import moment
from core.archive import Archive
from core.errors import WastestreamError
from core.redis.client import connect
from core.redis.feed import Feed
from core.redis.job_store import JobStore
from core.redis.ledger import TERMINAL, Ledger
from core.settings import Settings
from core.storage import ObjectStore
from core.times import timestamp

NOTHING: Final = 3
"""Exit code when no result matches."""

INCOMPLETE: Final = 4
"""Exit code when results were written, and others are missing."""

_PARQUET: Final = "parquet"


@click.command()
@click.option("--from", "first", callback=moment, metavar="TIME", help="First time of settling [the oldest].")
@click.option("--to", "end", callback=moment, metavar="TIME", help="Time of settling before which [now].")
@click.option("--camera", callback=camera_option, metavar="ID", help="Only results of this camera.")
@click.option(
    "--state", "states", multiple=True, type=click.Choice(TERMINAL), help="Only this state; may be repeated."
)
@click.option(
    "--format", "kind", type=click.Choice(list(FORMATS)), default="csv", show_default=True, help="Format."
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="File to write, complete or not at all [standard output].",
)
@click.pass_obj
def export(
    settings: Callable[[], Settings],
    *,
    first: int | None,
    end: int | None,
    camera: str,
    states: tuple[str, ...],
    kind: str,
    output: Path | None,
) -> None:
    """Export results, the oldest first, from the archive and, for the last hours, from Redis.

    A TIME is how long ago (30m, 2h, 7d), a date (midnight UTC) or an RFC 3339 time. Exit code 0: results were
    written. 1: the export failed. 2: wrong command line. 3: no result matches. 4: results were written, but
    others of the period are missing.
    """
    _check_format(kind, output)
    if first is not None and end is not None and first >= end:
        raise click.UsageError("--from must be before --to.")
    try:
        opened = settings()
        jobs = JobStore(connect(opened.redis))
        selection = Selection(
            first or 0, jobs.now_ms() + 1 if end is None else end, camera, frozenset(states)
        )
        feed = Feed(jobs.client, retention_hours=opened.retention_hours)
        results = Results(Archive(ObjectStore(opened)), feed, jobs, selection)
        holes = list(Holes(results, Ledger(jobs.client), selection, feed.window().oldest.ms).find())
        for hole in holes:
            click.echo(str(hole), err=True)
        documents = _documents(results)
        oldest = next(documents, None)
        if oldest is None:
            click.echo(_nothing(selection), err=True)
            sys.exit(NOTHING)
        count = _write(chain([oldest], documents), kind, output)
    except WastestreamError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count:,} results exported", err=True)
    if holes:
        sys.exit(INCOMPLETE)


def _write(documents: Iterator[dict[str, Any]], kind: str, output: Path | None) -> int:
    """Write results; return their number."""
    count = 0
    with _opened(output) as file, FORMATS[kind](file) as write:
        for document in documents:
            write(document)
            count += 1
    return count


def _nothing(selection: Selection) -> str:
    camera = f" of camera {selection.camera}" if selection.camera else ""
    states = f" with state {' or '.join(sorted(selection.states))}" if selection.states else ""
    first, end = timestamp(selection.first_ms), timestamp(selection.end_ms)
    return f"No result matches: none{camera}{states} settled from {first} to {end}."


def _check_format(kind: str, output: Path | None) -> None:
    if kind != _PARQUET:
        return
    if output is None:
        raise click.UsageError("A Parquet file cannot be written to standard output; name it with --output.")
    if importlib.util.find_spec("duckdb") is None:
        raise click.ClickException(
            "Parquet needs DuckDB, which is not installed here: pip install 'WHEEL[export]', where WHEEL is "
            "the file that wastestream was installed from. CSV and JSONL work without it."
        )


def _documents(results: Results) -> Iterator[dict[str, Any]]:
    shown = sys.stderr.isatty()
    with click.progressbar(results.hours, label="Archive", file=sys.stderr, hidden=not shown) as hours:
        for hour in hours:
            yield from results.archived(hour)
    yield from results.recent()


@contextmanager
def _opened(output: Path | None) -> Iterator[IO[bytes]]:
    """Open the output; a file gets its name when it is complete."""
    if output is None:
        yield sys.stdout.buffer
        return
    part = output.with_name(f"{output.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written ({error.strerror}).") from error
    finally:
        part.unlink(missing_ok=True)
