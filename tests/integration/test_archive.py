"""Hours of results in storage, on a real Redis and a real S3 server, and what `export` makes of them."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.export.command import export as command
from core.archive import HOUR_MS, RESULTS, Archive
from core.ids import new_job_id, packed_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.redis import keys
from core.redis.feed import Cursor, Feed
from core.redis.installation import Installation
from core.redis.job_store import JobStore
from core.redis.sinks import ARCHIVE, SinkStore
from core.settings import Settings
from core.storage import ObjectStore
from core.times import timestamp
from tests.conftest import environment_of
from tests.integration.test_feed import recent_of
from tests.support.servers import REPOSITORY, Server, wait_until
from worker.sinks.__main__ import sinks_of
from worker.sinks.archive import GRACE_MS, ArchiveSink
from worker.sinks.runner import DeliveryError

PREDICTION = Prediction("biodegradable", 0.912345, review=True)


class Hours:
    """Jobs that settled in past hours: the feed's entries are written with the times of then."""

    def __init__(self, jobs: JobStore) -> None:
        self._jobs = jobs
        now = jobs.now_ms()
        self.last = now - now % HOUR_MS - HOUR_MS
        """Beginning of the last hour that is over, ms since 1970."""
        self.entries: list[tuple[int, list[str]]] = []
        """Time and ids of each entry of the feed."""

    def settle(
        self, ms: int, count: int = 1, camera: str = "belt", state: JobState = JobState.CLASSIFIED
    ) -> list[str]:
        """Settle jobs at a time; return their ids."""
        new = [Job(new_job_id(), camera, "jpeg", 100) for _ in range(count)]
        ids = self._jobs.accept(new, "single", "test.queue", ["message"] * count).ids
        good = state is JobState.CLASSIFIED
        self._jobs.settle(
            [Outcome(i, state, PREDICTION if good else None, None if good else "x") for i in ids], "m"
        )
        with self._jobs.client.pipeline() as pipe:
            for job_id in ids:
                pipe.hset(keys.job(job_id), "settled", ms)
            pipe.execute()
        self.entries.append((ms, ids))
        self.write()
        return ids

    def write(self) -> None:
        """Write the feed anew."""
        self._jobs.client.delete(keys.FEED)
        for ms, ids in self.entries:
            packed = b"".join(map(packed_id, ids))
            self._jobs.client.xadd(keys.FEED, {"": packed}, id=f"{ms}-*")


@pytest.fixture
def hours(jobs: JobStore) -> Hours:
    """Past hours on the real Redis."""
    return Hours(jobs)


@pytest.fixture
def archive(objects: ObjectStore) -> Archive:
    """An empty archive."""
    for page in list(objects.pages(RESULTS)):
        objects.delete_many(page)
    return Archive(objects)


@pytest.fixture
def sink(jobs: JobStore, objects: ObjectStore, archive: Archive) -> Iterator[ArchiveSink]:
    """The sink."""
    sink = new_sink(jobs, objects)
    yield sink
    sink.close()


def new_sink(jobs: JobStore, objects: ObjectStore, *, retention_hours: float = 168.0) -> ArchiveSink:
    """Return a sink of a process that has just started."""
    return ArchiveSink(recent_of(jobs), jobs, objects, retention_hours=retention_hours)


def deliver_all(sink: ArchiveSink, cursor: Cursor) -> Cursor:
    """Deliver until nothing is due; return the cursor."""
    while after := sink.deliver(cursor):
        cursor = after
    return cursor


def ids_in(archive: Archive, hour: int) -> list[str]:
    """Return the ids of the jobs in an archived hour."""
    return [json.loads(line)["id"] for line in archive.lines(hour)]


def test_each_hour_is_an_object_once_it_is_over(
    client: FlaskClient,
    jobs: JobStore,
    objects: ObjectStore,
    archive: Archive,
    hours: Hours,
    sink: ArchiveSink,
) -> None:
    """In the order of settling, as the API shows them; hours without results have none, this one waits."""
    three, last, now = hours.last - 2 * HOUR_MS, hours.last, hours.last + HOUR_MS
    first = [*hours.settle(three, 1500), *hours.settle(three + 7, 3, "Bänd 2", JobState.FAILED)]
    second = hours.settle(last + HOUR_MS - 1, 2)
    hours.settle(now, 2)
    begin = Cursor(three - 10 * HOUR_MS)
    assert deliver_all(sink, begin) == Cursor(now)
    assert archive.hours() == [three, last]
    assert (ids_in(archive, three), ids_in(archive, last)) == (first, second)
    shown = client.post("/v1/jobs/query", json={"ids": [first[0], first[-1]]}).get_json()["jobs"]
    lines = list(archive.lines(three))
    assert [json.loads(lines[0]), json.loads(lines[-1])] == shown
    [key] = [
        key for page in objects.pages(RESULTS) for key in page if "/" + timestamp(last)[11:13] + "." in key
    ]
    assert key == f"results/{timestamp(last)[:13].replace('-', '/').replace('T', '/')}.jsonl.gz"
    assert gzip.decompress(objects.get(key)) == b"".join(line + b"\n" for line in archive.lines(last))


def test_the_last_hour_is_over_when_redis_clock_says_so(
    jobs: JobStore, archive: Archive, hours: Hours, sink: ArchiveSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few seconds later, though nothing settles any more; the clock may be corrected by less."""
    settled = hours.settle(hours.last + 5, 3)
    end = hours.last + HOUR_MS
    monkeypatch.setattr(jobs, "now_ms", lambda: end + GRACE_MS - 1)
    assert sink.deliver(Cursor(hours.last)) is None
    late = hours.settle(end - 1)
    monkeypatch.setattr(jobs, "now_ms", lambda: end + GRACE_MS)
    assert sink.deliver(Cursor(hours.last)) == Cursor(end)
    assert ids_in(archive, hours.last) == [*settled, *late]


def test_an_hour_written_again_is_the_same_object(
    jobs: JobStore,
    objects: ObjectStore,
    archive: Archive,
    hours: Hours,
    sink: ArchiveSink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a kill before it was noted, in whatever pieces it was gathered; one cut off is replaced."""
    settled = [i for n in range(7) for i in hours.settle(hours.last + n, 400)]
    begin = Cursor(hours.last)
    assert sink.deliver(begin) == Cursor(hours.last + HOUR_MS)
    [[key]] = list(objects.pages(RESULTS))
    whole = objects.get(key)
    monkeypatch.setattr("worker.sinks.archive._PIECE", 300)
    for damage in (None, whole[: len(whole) // 2]):
        if damage is not None:
            objects.put(key, damage)
            with pytest.raises(Exception, match="damaged"):
                list(archive.lines(hours.last))
        again = new_sink(jobs, objects)
        assert again.deliver(begin) == Cursor(hours.last + HOUR_MS)
        assert objects.get(key) == whole
    assert ids_in(archive, hours.last) == settled


def test_a_large_hour_is_stored_in_parts_and_read_in_pieces(archive: Archive) -> None:
    """More than one part and one piece; the lines that a piece cuts are whole."""
    lines = [secrets.token_hex(4000).encode() for _ in range(5000)]
    with tempfile.TemporaryFile() as file:
        file.write(gzip.compress(b"".join(line + b"\n" for line in lines), 1))
        assert file.tell() > 16 * 1024 * 1024
        archive.store(0, file)
    assert list(archive.lines(0)) == lines


def test_a_redis_restored_from_a_backup_takes_nothing_from_the_archive(
    jobs: JobStore, objects: ObjectStore, archive: Archive, hours: Hours, sink: ArchiveSink
) -> None:
    """It has fewer results of the hour, and its cursor stands before."""
    first, second = hours.settle(hours.last, 5), hours.settle(hours.last + 1, 5)
    assert sink.deliver(Cursor(hours.last))
    del hours.entries[1:]
    hours.write()
    assert new_sink(jobs, objects).deliver(Cursor(hours.last)) == Cursor(hours.last + HOUR_MS)
    assert ids_in(archive, hours.last) == [*first, *second]


def test_a_bucket_that_fails_is_tried_again(
    settings: Settings, jobs: JobStore, objects: ObjectStore, archive: Archive, hours: Hours
) -> None:
    """Nothing is lost, and the operator sees why it waits; the same of a full folder for temporary files."""
    settled = hours.settle(hours.last, 3)
    wrong = ObjectStore(settings.model_copy(update={"s3_bucket": "no-such-bucket"}))
    sink = new_sink(jobs, wrong)
    with pytest.raises(DeliveryError, match=r"no such bucket|does not exist"):
        sink.deliver(Cursor(hours.last))
    with pytest.raises(DeliveryError):
        sink.deliver(Cursor(hours.last))
    sink._archive, sink._installation = archive, Installation(jobs.client, objects)  # It was made meanwhile.
    assert sink.deliver(Cursor(hours.last)) == Cursor(hours.last + HOUR_MS)
    assert ids_in(archive, hours.last) == settled


def test_no_room_for_the_temporary_file(
    jobs: JobStore, objects: ObjectStore, archive: Archive, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence names the folder; with room, the hour is complete."""
    settled = hours.settle(hours.last, 3)
    sink = new_sink(jobs, objects)

    def full() -> IO[bytes]:
        return Path("/dev/full").open("w+b", buffering=0)

    with monkeypatch.context() as patch:
        patch.setattr("tempfile.TemporaryFile", full)
        with pytest.raises(DeliveryError, match=r"temporary file .* cannot be written .*No space left"):
            sink.deliver(Cursor(hours.last))
    assert sink.deliver(Cursor(hours.last)) == Cursor(hours.last + HOUR_MS)
    assert ids_in(archive, hours.last) == settled


def test_results_that_are_kept_too_briefly_are_no_silent_loss(jobs: JobStore, objects: ObjectStore) -> None:
    """The archive says which settings to change."""
    with pytest.raises(DeliveryError, match=r"WASTESTREAM_RETENTION_HOURS.*WASTESTREAM_ARCHIVE=off"):
        new_sink(jobs, objects, retention_hours=1).deliver(Cursor(0))


def test_the_archive_can_be_off(settings: Settings, jobs: JobStore) -> None:
    """It is on by default."""
    recent = recent_of(jobs)
    off = settings.model_copy(update={"archive": "off"})
    assert [sink.name for sink in sinks_of(settings, jobs.client, recent)] == [ARCHIVE]
    assert [sink.name for sink in sinks_of(off, jobs.client, recent)] == []


@pytest.fixture
def sinks(settings: Settings, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """A function that starts a process of sinks."""
    started: list[Server] = []

    def start(**environment: str) -> Server:
        variables = {**environment_of(settings), **environment}
        server = Server([sys.executable, "-m", "worker.sinks"], tmp_path / "sinks.log", environment=variables)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


def test_the_process_archives_and_goes_on_after_a_kill(
    jobs: JobStore, archive: Archive, hours: Hours, sinks: Callable[..., Server]
) -> None:
    """Hours that ended meanwhile are caught up."""
    two = hours.last - HOUR_MS
    first = hours.settle(two, 20)
    server = sinks()
    wait_until(lambda: archive.hours() == [two], "the first hour")
    server.kill()
    second = hours.settle(hours.last, 20)
    sinks()
    wait_until(lambda: len(archive.hours()) == 2, "the second hour", 60)
    assert (ids_in(archive, two), ids_in(archive, hours.last)) == (first, second)
    store = SinkStore(jobs.client, Feed(jobs.client))
    wait_until(lambda: store.cursor(ARCHIVE) == Cursor(hours.last + HOUR_MS), "its cursor")
    assert [(state.name, state.error, state.gaps) for state in store.states()] == [(ARCHIVE, "", 0)]


Export = Callable[..., Result]


@pytest.fixture
def export(settings: Settings) -> Export:
    """A function that runs the command in this process."""

    def run(*arguments: str, **changes: SecretStr) -> Result:
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


def test_export_as_a_table(
    jobs: JobStore, archive: Archive, hours: Hours, export: Export, tmp_path: Path
) -> None:
    """CSV to a file or standard output, Parquet with types; the files have the same rows."""
    duckdb = pytest.importorskip("duckdb")
    now = jobs.now_ms()
    good, bad = hours.settle(now - 2, 2, "Bänd 2"), hours.settle(now - 1, 1, "a, b", JobState.FAILED)
    done = export()
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["id"] for row in rows] == [*good, *bad]
    assert (rows[0]["label"], rows[0]["probability"], rows[0]["review"]) == (
        "biodegradable",
        "0.912345",
        "true",
    )
    assert (rows[2]["camera"], rows[2]["label"], rows[2]["error"]) == ("a, b", "", "x")
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
