"""Hours of results in storage, on a real Redis and a real S3 server."""

from __future__ import annotations

import gzip
import json
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from flask.testing import FlaskClient

from core.archive import HOUR_MS, RESULTS, Archive
from core.errors import CursorExpiredError
from core.jobs import JobState
from core.redis import keys
from core.redis.feed import Cursor, Feed
from core.redis.installation import Installation
from core.redis.job_store import JobStore
from core.redis.sinks import ARCHIVE, SinkStore
from core.settings import Settings
from core.storage import ObjectStore
from core.times import timestamp
from tests.conftest import environment_of
from tests.support.archive import Hours, deliver_all, new_sink
from tests.support.feed import recent_of
from tests.support.servers import Server, wait_until
from worker.sinks.__main__ import sinks_of
from worker.sinks.archive import GRACE_MS, ArchiveSink
from worker.sinks.runner import DeliveryError


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


def test_an_hour_is_stored_without_what_has_expired(
    jobs: JobStore, archive: Archive, hours: Hours, sink: ArchiveSink
) -> None:
    """The runner is told that there is a gap, and goes on with the next hour."""
    ids = [job_id for at in range(4) for job_id in hours.settle(hours.last + at, 2)]
    for expired in ids[2:5]:
        jobs.client.delete(keys.job(expired))
    hours.settle(hours.last + HOUR_MS)
    with pytest.raises(CursorExpiredError) as gap:
        deliver_all(sink, Cursor(hours.last - HOUR_MS))
    assert gap.value.oldest == str(Cursor(hours.last + HOUR_MS))
    assert ids_in(archive, hours.last) == [*ids[:2], *ids[5:]]


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
