"""What `export` makes of archived hours and of the feed, on a real Redis and a real S3 server."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from api.export.command import export as command
from core.archive import HOUR_MS, RESULTS, Archive
from core.hours import hour_of
from core.jobs import JobState
from core.redis import keys
from core.redis.feed import Cursor
from core.redis.job_store import JobStore
from core.settings import Settings
from core.storage import ObjectStore
from core.times import timestamp
from tests.conftest import environment_of
from tests.support.archive import Hours, deliver_all
from tests.support.servers import REPOSITORY
from worker.sinks.archive import ArchiveSink

Export = Callable[..., Result]


@pytest.fixture
def export(settings: Settings) -> Export:
    """A function that runs the command in this process."""

    def run(*arguments: str, **changes: object) -> Result:
        opened = settings.model_copy(update=changes)
        return CliRunner().invoke(command, arguments, obj=lambda: opened)

    return run


def exported(done: Result) -> list[dict[str, Any]]:
    """Return the documents of a JSONL export."""
    assert done.exit_code == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_export_reads_archive_and_feed_each_result_once(
    jobs: JobStore, archive: Archive, hours: Hours, sink: ArchiveSink, export: Export
) -> None:
    """In the order of settling; by time, camera and state; also when Redis has forgotten the archived."""
    two, last, now = hours.last - HOUR_MS, hours.last, jobs.now_ms()
    first = hours.settle(two + 5, 3)
    failed = hours.settle(two + 9, 1, "Bänd 2", JobState.FAILED)
    second = hours.settle(last, 2)
    deliver_all(sink, Cursor(two))
    recent = hours.settle(now, 2, "Bänd 2")
    everything = [*first, *failed, *second, *recent]

    def ids(*arguments: str) -> list[str]:
        return [document["id"] for document in exported(export("--format", "jsonl", *arguments))]

    assert ids() == everything
    jobs.client.delete(*[keys.job(i) for i in [*first, *failed, *second]])
    assert ids() == everything
    assert ids("--from", timestamp(two + 9), "--to", timestamp(last)) == failed
    assert ids("--from", timestamp(last)) == [*second, *recent]
    assert ids("--camera", "Bänd 2", "--state", "classified", "--state", "expired") == recent


def test_export_names_the_results_that_are_missing(
    jobs: JobStore, archive: Archive, hours: Hours, export: Export
) -> None:
    """Before, between and after archived hours; idle hours, and jobs that waited for hours, are no holes."""
    begin = hours.last - 20 * HOUR_MS
    times = [begin + number * HOUR_MS for number in range(10)]
    for hour, accepted in {1: [1], 3: [3], 5: [4, 4, 5]}.items():
        lines = [line_of(accepted_ms=times[by], settled_ms=times[hour]) for by in accepted]
        archive.store(times[hour], io.BytesIO(gzip.compress("".join(lines).encode())))
    for hour, count in {0: 4, 1: 1, 2: 7, 3: 1, 4: 2, 5: 1, 6: 9}.items():
        name = hour_of(times[hour])
        jobs.client.hset(f"{keys.LEDGER}{name}:belt", "classified", count)
        jobs.client.zadd(keys.LEDGERS, {f"{name}:belt": int(name)})
    hours.settle(jobs.now_ms())

    def missing(code: int, *arguments: str) -> list[str]:
        kept = (jobs.now_ms() - times[8]) / HOUR_MS - 0.5
        done = export("--format", "jsonl", *arguments, retention_hours=kept)
        assert done.exit_code == code, done.stderr
        return [line.partition(" are missing: ")[0] for line in done.stderr.splitlines() if "missing" in line]

    def hole(count: int, first: int, end: int) -> str:
        return f"At least {count} results from {timestamp(times[first])} to {timestamp(times[end])}"

    assert missing(4) == [hole(7, 2, 3), hole(9, 6, 8)]
    assert missing(4, "--from", timestamp(begin)) == [hole(4, 0, 1), hole(7, 2, 3), hole(9, 6, 8)]
    assert missing(0, "--from", timestamp(times[3]), "--to", timestamp(times[6])) == []
    assert missing(3, "--camera", "another") == []


def line_of(*, accepted_ms: int, settled_ms: int) -> str:
    """Return a line of the archive."""
    members = {"id": "x", "state": "classified", "camera": "belt", "retry_of": None, "error": None}
    return (
        json.dumps({**members, "accepted_at": timestamp(accepted_ms), "settled_at": timestamp(settled_ms)})
        + "\n"
    )


def test_export_as_a_table(
    jobs: JobStore, archive: Archive, hours: Hours, export: Export, tmp_path: Path
) -> None:
    """CSV to a file or standard output, Parquet with types; the files have the same rows."""
    now = jobs.now_ms()
    good, bad = hours.settle(now - 2, 2, "Bänd 2"), hours.settle(now - 1, 1, "a, b", JobState.FAILED)
    jobs.client.hset(keys.job(good[1]), "retry_of", bad[0])
    done = export()
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == [*good, *bad]
    assert (rows[0]["label"], rows[0]["probability"], rows[0]["review"]) == (
        "biodegradable",
        "0.912345",
        "true",
    )
    assert (rows[2]["camera"], rows[2]["label"], rows[2]["error"]) == ("a, b", "", "x")
    assert [row["retry_of"] for row in rows] == ["", bad[0], ""]
    assert export("--output", str(tmp_path / "results.csv")).stderr == "3 results exported\n"
    assert (tmp_path / "results.csv").read_text() == done.stdout
    parquet = str(tmp_path / "results.parquet")
    written = export("--format", "parquet", "--output", parquet)
    assert written.exit_code == 0, written.stderr
    table = duckdb.read_parquet(parquet)
    assert table.columns == list(rows[0])
    totals = table.aggregate("count(*), sum(review::int), epoch_ms(max(settled_at))")
    assert totals.fetchall() == [(3, 2, now - 1)]
    assert {path.name for path in tmp_path.iterdir()} == {"results.csv", "results.parquet"}


def test_export_says_what_is_wrong(
    objects: ObjectStore, archive: Archive, hours: Hours, sink: ArchiveSink, export: Export, tmp_path: Path
) -> None:
    """Nothing matches, wrong times, no file for Parquet, a damaged hour, services that are away."""

    def fails(code: int, sentence: str, *arguments: str, **changes: SecretStr) -> None:
        done = export(*arguments, **changes)
        assert (done.exit_code, done.stdout) == (code, ""), done.stderr
        assert sentence in " ".join(done.stderr.split())

    output = str(tmp_path / "results.csv")
    hours.settle(hours.last, 3)
    deliver_all(sink, Cursor(hours.last))
    fails(
        3, "No result matches: none of camera nobody settled from", "--camera", "nobody", "--output", output
    )
    fails(2, "'yesterday' is not a time", "--from", "yesterday")
    fails(2, "--from must be before --to", "--from", "2026-02-01", "--to", "2026-01-01")
    fails(2, "cannot be a camera's id", "--camera", "a/b")
    fails(2, "name it with --output", "--format", "parquet")
    fails(1, "Redis does not answer", redis_url=SecretStr("redis://127.0.0.1:1/0"))
    fails(1, "cannot be written", "--output", "no/such/folder/x.csv")
    [[key]] = list(objects.pages(RESULTS))
    objects.put(key, objects.get(key)[:-9])
    fails(1, "is damaged. Restore", "--output", output)
    assert not list(tmp_path.iterdir())


def test_the_commands_of_a_checkout_and_of_a_container(
    settings: Settings, jobs: JobStore, archive: Archive, hours: Hours
) -> None:
    """Both read Redis and storage that the environment names."""
    settled = hours.settle(jobs.now_ms(), 2)
    for words in (["infra.cli", "export"], ["api.export"]):
        done = subprocess.run(
            [sys.executable, "-m", *words, "--format", "jsonl"],
            cwd=REPOSITORY,
            env={**os.environ, **environment_of(settings)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.stderr == "2 results exported\n"
        assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == settled
