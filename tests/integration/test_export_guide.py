"""The guide to exports runs as it is written: PostgreSQL loads CSV, DuckDB asks Parquet and the archive."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from api.export.formats import FORMATS
from core.archive import Archive
from core.ids import new_job_id
from core.job_document import job_document
from core.jobs import Job, JobState, Prediction
from core.storage import ObjectStore
from tests.support.servers import REPOSITORY, free_port

_GUIDE = (REPOSITORY / "docs" / "how-to" / "export-results.md").read_text(encoding="utf-8")
_MAKE, _LOAD, _PARQUET, _ARCHIVE = re.findall(r"```sql\n(.*?)```", _GUIDE, re.DOTALL)

_POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
_AS_POSTGRES = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []

_MS = round(datetime(2026, 1, 31, 7, 15, tzinfo=UTC).timestamp() * 1000)
_GOOD = Prediction("biodegradable", 0.912345, review=True)


def _jobs() -> list[Job]:
    good = Job("", "Bänd 2", "jpeg", 1, state=JobState.CLASSIFIED, prediction=_GOOD, model="m")
    bad = Job("", "belt", "jpeg", 1, state=JobState.FAILED, error='"a", b')
    return [replace(job, id=new_job_id(), settled_ms=_MS) for job in (good, good, bad)]


def _write(path: Path, kind: str, jobs: list[Job]) -> None:
    with path.open("wb") as file, FORMATS[kind](file) as write:
        for job in jobs:
            write(job_document(job))


@pytest.fixture
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """A server for one test; gives the command of `psql`."""
    if not _POSTGRESQL and "CI" not in os.environ:
        pytest.skip("PostgreSQL is not installed")
    programs = _POSTGRESQL[-1]
    folder = tmp_path_factory.mktemp("postgresql")
    if _AS_POSTGRES:  # It does not run as root, and another user cannot enter pytest's folders.
        folder = Path(tempfile.mkdtemp())
        shutil.chown(folder, "postgres")

    def run(*command: str | Path) -> None:
        subprocess.run([*_AS_POSTGRES, *command], check=True, cwd="/", stdout=subprocess.DEVNULL)

    port = free_port()
    run(programs / "initdb", "-A", "trust", "-U", "wastestream", "-N", "-D", folder / "data")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
    run(programs / "pg_ctl", "-w", "-D", folder / "data", "-l", folder / "log", "-o", options, "start")
    url = f"postgresql://wastestream@127.0.0.1:{port}/postgres"
    yield [str(programs / "psql"), url, "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1"]
    run(programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    if _AS_POSTGRES:
        shutil.rmtree(folder)


def test_postgresql_loads_a_csv_file_once(postgresql: list[str], tmp_path: Path) -> None:
    """Loading it again changes nothing; missing values are NULL."""

    def psql(script: str) -> str:
        done = subprocess.run(
            postgresql, input=script, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    _write(tmp_path / "results.csv", "csv", _jobs())
    psql(_MAKE)
    for _ in range(2):
        psql(_LOAD)
    rows = psql("SELECT camera, label, review, probability, error, captured_at IS NULL FROM results;")
    good = "Bänd 2|biodegradable|t|0.912345||t\n"
    assert sorted(rows.splitlines(keepends=True)) == sorted([good, good, 'belt||||"a", b|t\n'])


def test_duckdb_asks_a_year(objects: ObjectStore, tmp_path: Path) -> None:
    """As Parquet, and in the archive's own files."""
    jobs = _jobs()
    year = tmp_path / "2026.parquet"
    _write(year, "parquet", jobs)
    assert "'2026.parquet'" in _PARQUET
    with duckdb.connect() as database:
        database.execute("SET TimeZone = 'UTC'")
        rows = database.execute(_PARQUET.replace("'2026.parquet'", f"'{year}'")).fetchall()
    assert rows == [("Bänd 2", 1, 2, 1.0)]
    plain = tmp_path / "hour.jsonl"
    _write(plain, "jsonl", jobs)
    hour = tmp_path / "results/2026/01/31/07.jsonl.gz"
    hour.parent.mkdir(parents=True)
    with (tmp_path / "hour.gz").open("w+b") as packed:
        subprocess.run(["gzip", "-c", plain], stdout=packed, check=True)
        start = _MS - _MS % 3_600_000
        Archive(objects).store(start, packed)
    hour.write_bytes(objects.get("results/2026/01/31/07.jsonl.gz"))
    asked = _ARCHIVE.replace("'results/", f"'{tmp_path}/results/")
    with duckdb.connect() as database:
        assert database.execute(asked).fetchall() == [("Bänd 2", "biodegradable", 2)]
    objects.delete_many(["results/2026/01/31/07.jsonl.gz"])
