"""core.ledger on a real Redis: every transition is atomic, and counters move only with the state."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import IdempotencyConflictError, LedgerUnavailableError
from core.jobs import JobState, NewJob, Outcome, new_job_id
from core.ledger import Idempotency, JobStore, connect
from core.manifest import Prediction
from tests.support.servers import free_port

QUEUE = "test.queue"
GOOD = Prediction("biodegradable", 0.9, review=True)


def _accept(
    jobs: JobStore, count: int = 1, idempotency: Idempotency | None = None, camera: str = "belt"
) -> list[str]:
    new = [NewJob(new_job_id(), camera, "jpeg", 100, 1_700_000_000_000) for _ in range(count)]
    return jobs.accept(new, "single", QUEUE, ["message"] * count, idempotency)


def _counts(jobs: JobStore) -> dict[str, int]:
    (row,) = jobs.ledger()
    return row.counts


def test_accepting_records_counts_and_enqueues(jobs: JobStore) -> None:
    """After one call the job is queued, pending, counted, and its message is in the queue."""
    (job_id,) = _accept(jobs)
    job = jobs.read(job_id)
    assert job is not None
    assert (job.state, job.camera, job.size, job.captured_ms) == (
        JobState.QUEUED,
        "belt",
        100,
        1_700_000_000_000,
    )
    assert jobs.pending() == 1
    assert _counts(jobs) == {"received": 1}
    assert jobs.client.lrange(QUEUE, 0, -1) == ["message"]


def test_accepting_the_same_job_again_changes_nothing(jobs: JobStore) -> None:
    """A call repeated after a broken connection counts once and enqueues once."""
    new = [NewJob(new_job_id(), "belt", "jpeg", 1)]
    jobs.accept(new, "single", QUEUE, ["message"])
    jobs.accept(new, "single", QUEUE, ["message"])
    assert _counts(jobs) == {"received": 1}
    assert jobs.client.llen(QUEUE) == 1


def test_the_first_terminal_state_wins(jobs: JobStore) -> None:
    """A second settlement changes neither the record nor a counter."""
    (job_id,) = _accept(jobs)
    assert jobs.settle([Outcome(job_id, JobState.CLASSIFIED, GOOD)], "m") == [JobState.CLASSIFIED]
    assert jobs.settle([Outcome(job_id, JobState.FAILED, error="late")], "m") == [JobState.CLASSIFIED]
    job = jobs.read(job_id)
    assert job is not None
    assert (job.state, job.prediction, job.model, job.error) == (JobState.CLASSIFIED, GOOD, "m", None)
    assert _counts(jobs) == {"received": 1, "classified": 1, "biodegradable": 1, "review": 1}
    assert jobs.pending() == 0


def test_settling_from_many_threads_counts_each_job_once(jobs: JobStore) -> None:
    """Twenty jobs, each settled by eight threads at once: twenty in the ledger."""
    ids = _accept(jobs, 20)
    with ThreadPoolExecutor(8) as threads:
        list(
            threads.map(
                lambda _: jobs.settle([Outcome(i, JobState.CLASSIFIED, GOOD) for i in ids], "m"), range(8)
            )
        )
    assert _counts(jobs) == {"received": 20, "classified": 20, "biodegradable": 20, "review": 20}


def test_a_settled_record_expires_and_a_queued_one_does_not(jobs: JobStore) -> None:
    """Only what is finished may be forgotten."""
    first, second = _accept(jobs, 2)
    jobs.settle([Outcome(first, JobState.FAILED, error="why")], "m")
    assert jobs.client.ttl(f"ws:job:{first}") > 0
    assert jobs.client.ttl(f"ws:job:{second}") == -1
    settled = jobs.read(first)
    assert settled is not None
    assert settled.error == "why"


def test_settling_an_unknown_job_is_harmless(jobs: JobStore) -> None:
    """A record that is gone counts nowhere."""
    assert jobs.settle([Outcome(new_job_id(), JobState.CLASSIFIED, GOOD)], "m") == [None]
    assert jobs.ledger() == []


def test_an_idempotency_key_stands_for_one_upload(jobs: JobStore) -> None:
    """The same key and bytes give the first jobs again, counted as duplicates; other bytes are refused."""
    key = Idempotency("key", "digest")
    first = _accept(jobs, 2, key)
    assert jobs.known(key, "belt") == first
    assert _accept(jobs, 2, key) == first
    assert _counts(jobs) == {"received": 2, "duplicates": 4}
    assert jobs.client.llen(QUEUE) == 2
    with pytest.raises(IdempotencyConflictError, match="other bytes"):
        jobs.known(Idempotency("key", "different"), "belt")
    with pytest.raises(IdempotencyConflictError, match="other bytes"):
        _accept(jobs, 1, Idempotency("key", "different"))


def test_one_of_many_simultaneous_uploads_with_one_key_wins(jobs: JobStore) -> None:
    """Eight threads, one key: one job."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: tuple(_accept(jobs, 1, Idempotency("key", "d"))), range(8)))
    assert len(set(answers)) == 1
    assert _counts(jobs)["received"] == 1


def test_starts_are_counted_and_forgiven(jobs: JobStore) -> None:
    """`begin` counts up, `forgive` takes one back, and a settled job only tells its state."""
    (job_id,) = _accept(jobs)
    assert [jobs.begin(job_id), jobs.begin(job_id)] == [1, 2]
    jobs.forgive([job_id])
    assert jobs.begin(job_id) == 2
    jobs.settle([Outcome(job_id, JobState.FAILED, error="x")], "m")
    assert jobs.begin(job_id) is JobState.FAILED
    assert jobs.begin(new_job_id()) is None


def test_cameras_are_counted_apart(jobs: JobStore) -> None:
    """Each camera has its own row."""
    _accept(jobs, 1, camera="a")
    _accept(jobs, 2, camera="b")
    assert {row.camera: row.counts["received"] for row in jobs.ledger()} == {"a": 1, "b": 2}


def test_redis_out_of_memory_accepts_nothing(jobs: JobStore) -> None:
    """A full Redis refuses the whole upload: no record, no count, no message."""
    jobs.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(LedgerUnavailableError):
            _accept(jobs, 2)
    finally:
        jobs.client.config_set("maxmemory", "0")
    assert jobs.pending() == 0
    assert jobs.ledger() == []


def test_redis_down_is_our_error() -> None:
    """The caller sees one error of ours, whatever the client library raises."""
    with pytest.raises(LedgerUnavailableError):
        JobStore(connect(f"redis://127.0.0.1:{free_port()}/0", patience=0.5)).read(new_job_id())
