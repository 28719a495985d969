"""core.redis.job_store on a real Redis: every transition is atomic, and counters move only with the state."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import IdempotencyConflictError, QueueFullError, RateLimitError, RedisUnavailableError
from core.ids import new_job_id
from core.jobs import Job, JobState, Outcome, Prediction
from core.redis import keys
from core.redis.admission import Accepted, Idempotency, RateLimit, Submission
from core.redis.client import connect
from core.redis.job_store import JobStore
from core.redis.ledger import Ledger, LedgerRow
from core.redis.workers import WorkerRegistry
from tests.support.cuts import lose_answer
from tests.support.servers import free_port

QUEUE = "test.queue"
GOOD = Prediction("biodegradable", 0.9, review=True)


def _accept(
    jobs: JobStore, count: int = 1, idempotency: Idempotency | None = None, camera: str = "belt"
) -> list[str]:
    new = [Job(new_job_id(), camera, "jpeg", 100, 1_700_000_000_000) for _ in range(count)]
    return jobs.accept(new, "single", QUEUE, ["message"] * count, idempotency).ids


def _rows(jobs: JobStore) -> list[LedgerRow]:
    ledger = Ledger(jobs.client)
    return list(ledger.rows(ledger.names("-inf", "+inf", max_rows=1000)))


def _counts(jobs: JobStore) -> dict[str, int]:
    (row,) = _rows(jobs)
    return row.counts.moved


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
    assert _counts(jobs) == {"received": 1, "pending": 1}
    assert jobs.client.lrange(QUEUE, 0, -1) == ["message"]


def test_accepting_the_same_job_again_changes_nothing(jobs: JobStore) -> None:
    """A call repeated after a broken connection counts once and enqueues once."""
    new = [Job(new_job_id(), "belt", "jpeg", 1)]
    jobs.accept(new, "single", QUEUE, ["message"])
    jobs.accept(new, "single", QUEUE, ["message"])
    assert _counts(jobs) == {"received": 1, "pending": 1}
    assert jobs.client.llen(QUEUE) == 1


def test_several_are_accepted_each_by_itself(jobs: JobStore) -> None:
    """In one call; one that is rejected leaves the others, and the message comes if there is any for it."""
    tight = JobStore(jobs.client, max_queued=4)
    new = [[Job(new_job_id(), f"belt-{count}", "jpeg", 1) for _ in range(count)] for count in (2, 3, 1)]
    first_key, second_key = Idempotency("one", "d"), Idempotency("another", "d")
    submissions = [Submission(new[0], first_key), Submission(new[1], second_key), Submission(new[2])]
    first, rejected, last = tight.accept_many(submissions, "single", QUEUE, ["message"])
    assert isinstance(first, Accepted)
    assert isinstance(last, Accepted)
    assert isinstance(rejected, QueueFullError)
    assert (first.ids, last.ids) == ([job.id for job in new[0]], [job.id for job in new[2]])
    assert [place and place.ahead for place in (*first.places, *last.places)] == [0, 1, 2]
    assert jobs.client.lrange(QUEUE, 0, -1) == ["message"]
    assert {row.camera: row.counts.moved["received"] for row in _rows(jobs)} == {"belt-2": 2, "belt-1": 1}

    # The key that was rejected is free; the other one stands for its jobs, also in the next call.
    again = [Submission([_new()], key) for key in (first_key, second_key)]
    known, taken = tight.accept_many(again, "single", QUEUE, ["m"])
    assert isinstance(known, Accepted)
    assert isinstance(taken, Accepted)
    assert (known.known, known.jobs, taken.ids) == (first.ids, (), [again[1].jobs[0].id])
    assert jobs.client.lrange(QUEUE, 0, -1) == ["m", "message"]
    assert isinstance(tight.accept_many([Submission([_new()])], "single", QUEUE, ["no"])[0], QueueFullError)
    assert jobs.client.llen(QUEUE) == 2


def test_a_group_whose_answer_was_lost_is_not_changed_by_its_repetition(jobs: JobStore) -> None:
    """A rejected submission stays rejected though it would fit now, and nothing is written."""
    limit = RateLimit("slow", 0.001, 1)
    submissions = [Submission([_new()]), Submission([_new()], None, limit), Submission([_new()], None, limit)]
    first = jobs.accept_many(submissions, "single", QUEUE, ["message"])
    assert [type(outcome) for outcome in first] == [Accepted, Accepted, RateLimitError]
    jobs.client.delete("ws:rate:slow")
    jobs.client.config_set("maxmemory", 1)
    try:
        again = jobs.accept_many(submissions, "single", QUEUE, ["message"])
    finally:
        jobs.client.config_set("maxmemory", 0)
    assert [type(outcome) for outcome in again] == [Accepted, Accepted, QueueFullError]
    assert jobs.client.lrange(QUEUE, 0, -1) == ["message"]
    assert _counts(jobs) == {"received": 2, "pending": 2}


def test_each_duplicate_of_a_group_counts_for_its_camera(jobs: JobStore) -> None:
    """Two uploads that are known, of two cameras, beside one that is new."""
    keys = [Idempotency(name, "d") for name in ("one", "other")]
    for _ in range(2):
        new = [Job(new_job_id(), f"belt-{number}", "jpeg", 1) for number in range(3)]
        submissions = [
            Submission([new[0]], keys[0]),
            Submission([new[1]], keys[1]),
            Submission([new[2]]),
        ]
        jobs.accept_many(submissions, "single", QUEUE, ["message"])
    moved = {row.camera: row.counts.moved for row in _rows(jobs)}
    assert {camera: counts.get("duplicates", 0) for camera, counts in moved.items()} == {
        "belt-0": 1,
        "belt-1": 1,
        "belt-2": 0,
    }
    assert {camera: counts["received"] for camera, counts in moved.items()} == {
        "belt-0": 1,
        "belt-1": 1,
        "belt-2": 2,
    }


def test_each_camera_of_a_duplicate_is_counted(jobs: JobStore) -> None:
    """Those of one upload under one key, looked at before it is stored, and as it is about to be accepted."""
    cameras = ["belt-1", "belt-2", "belt-2"]
    key = Idempotency("key", "d", cameras=cameras)
    for _ in range(2):
        jobs.accept([Job(new_job_id(), camera, "jpeg", 1) for camera in cameras], "bulk", QUEUE, ["m"], key)
    assert jobs.admit([key], "bulk", 3) != [None]
    moved = {row.camera: row.counts.moved for row in _rows(jobs)}
    assert {camera: counts["duplicates"] for camera, counts in moved.items()} == {"belt-1": 2, "belt-2": 4}
    assert jobs.client.hget("ws:totals:belt-2", "duplicates") == "4"


def _call(count: int, limit: RateLimit | None = None) -> list[Submission]:
    """Submissions of a call of so many files, each of a camera and an hour of its own, with a key."""
    ids = [new_job_id() for _ in range(count)]
    earlier = [f"0{number}{job_id[2:]}" for number, job_id in enumerate(ids)]
    return [
        Submission(
            [Job(job_id, f"belt-{number}", "jpeg", 1)],
            Idempotency(f"k{number}", "d", cameras=[f"belt-{number}"]),
            limit,
        )
        for number, job_id in enumerate(earlier)
    ]


def test_a_call_of_several_cameras_and_hours_has_a_row_for_each(jobs: JobStore) -> None:
    """And a key for each file, which a later call and this one find again."""
    call = _call(3)
    twice = [*call, Submission([Job(new_job_id(), "belt-0", "jpeg", 1)], call[0].idempotency)]
    *made, again = jobs.accept_many(twice, "bulk", QUEUE, ["message"], one_call=True)
    assert [outcome.ids for outcome in made if isinstance(outcome, Accepted)] == [
        [submission.jobs[0].id] for submission in call
    ]
    assert again == Accepted(known=[call[0].jobs[0].id])
    rows = {row.camera: row for row in _rows(jobs) if "received" in row.counts.moved}
    assert len({row.hour for row in rows.values()}) == 3
    assert [rows[f"belt-{number}"].counts.moved["received"] for number in range(3)] == [1, 1, 1]
    known = jobs.admit([submission.idempotency for submission in call if submission.idempotency], "bulk", 3)
    assert known == [Accepted(known=[submission.jobs[0].id]) for submission in call]
    other = Idempotency("k0", "other bytes", cameras=["belt-0"])
    conflict, free = jobs.admit([other, Idempotency("free", "d", cameras=["belt-0"])], "bulk", 2)
    assert (type(conflict), free) == (IdempotencyConflictError, None)
    totals = {camera: totals.duplicates for camera, totals in Ledger(jobs.client).snapshot()[0].items()}
    assert totals == {"belt-0": 2, "belt-1": 1, "belt-2": 1}


def test_a_call_has_places_for_all_its_files_or_none(jobs: JobStore) -> None:
    """Known files need none; a limit may be overdrawn by the call that finds an image left."""
    tight = JobStore(jobs.client, max_queued=4)
    first, second = _call(3), _call(5)
    assert [type(outcome) for outcome in tight.accept_many(first, "single", QUEUE, ["m"], one_call=True)] == (
        [Accepted] * 3
    )
    outcomes = tight.accept_many(second, "single", QUEUE, ["m"], one_call=True)
    assert [type(outcome) for outcome in outcomes] == [Accepted] * 3 + [QueueFullError] * 2
    assert jobs.pending() == 3
    assert jobs.client.llen(QUEUE) == 1
    for call in (second[:4], [*second[:4], second[3]]):  # one place is enough
        outcomes = tight.accept_many(call, "single", QUEUE, ["m"], one_call=True)
        assert [type(outcome) for outcome in outcomes] == [Accepted] * len(call)
    with pytest.raises(QueueFullError, match="The queue is full: 4 images wait"):
        tight.admit([], "single", 1)

    limit = RateLimit("slow", 0.001, 2)
    jobs.client.flushall()
    taken = jobs.accept_many(_call(3, limit), "single", QUEUE, ["m"], one_call=True)
    assert [outcome.left for outcome in taken if isinstance(outcome, Accepted)] == [1, 0, 0]
    fresh = [Submission([_new()], None, limit) for _ in range(2)]
    rejected = jobs.accept_many(fresh, "single", QUEUE, ["m"], one_call=True)
    assert [type(outcome) for outcome in rejected] == [RateLimitError] * 2
    assert jobs.pending() == 3


def test_a_file_of_a_camera_too_many_does_not_touch_the_others_of_its_call(jobs: JobStore) -> None:
    """Nor does the same call change anything when it is repeated because its answer was lost."""
    few = JobStore(jobs.client, max_cameras=2)
    call = _call(3)
    for _ in range(2):
        outcomes = few.accept_many(call[::-1], "bulk", QUEUE, ["message"], one_call=True)
        assert [type(outcome) for outcome in outcomes[:2]] == [Accepted] * 2
        assert not isinstance(outcomes[2], Accepted)
    assert jobs.pending() == 2
    assert jobs.client.llen(QUEUE) == 1


def _new() -> Job:
    return Job(new_job_id(), "belt-1", "jpeg", 1)


def test_the_first_terminal_state_wins(jobs: JobStore) -> None:
    """A second settlement changes neither the record nor a counter."""
    (job_id,) = _accept(jobs)
    assert jobs.settle([Outcome(job_id, JobState.CLASSIFIED, GOOD)], "m") == [JobState.CLASSIFIED]
    assert jobs.settle([Outcome(job_id, JobState.FAILED, error="late")], "m") == [JobState.CLASSIFIED]
    job = jobs.read(job_id)
    assert job is not None
    assert (job.state, job.prediction, job.model, job.error) == (JobState.CLASSIFIED, GOOD, "m", None)
    assert _counts(jobs) == {"received": 1, "classified": 1, "biodegradable": 1, "review": 1, "pending": 0}
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
    assert _counts(jobs) == {
        "received": 20,
        "classified": 20,
        "biodegradable": 20,
        "review": 20,
        "pending": 0,
    }


def test_a_settled_record_expires_and_a_queued_one_does_not(jobs: JobStore) -> None:
    """Only settled jobs may be forgotten."""
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
    assert _rows(jobs) == []


def test_an_idempotency_key_stands_for_one_upload(jobs: JobStore) -> None:
    """The same key and bytes give the first jobs again, counted as duplicates; other bytes are rejected."""
    key = Idempotency("key", "digest", cameras=["belt", "belt"])
    first = _accept(jobs, 2, key)
    assert jobs.admit([key], "single", 2) == [Accepted(known=first)]
    assert _accept(jobs, 2, key) == first
    assert _counts(jobs) == {"received": 2, "pending": 2, "duplicates": 4}
    assert jobs.client.llen(QUEUE) == 2
    (conflict,) = jobs.admit([Idempotency("key", "different", cameras=["belt"])], "single", 1)
    assert isinstance(conflict, IdempotencyConflictError)
    with pytest.raises(IdempotencyConflictError, match="other bytes"):
        _accept(jobs, 1, Idempotency("key", "different"))
    assert _counts(jobs)["duplicates"] == 4
    assert _accept(jobs, 1, Idempotency("key", "different", owner="another")) != first[:1]


def test_one_of_many_simultaneous_uploads_with_one_key_wins(jobs: JobStore) -> None:
    """Eight threads, one key: one job."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: tuple(_accept(jobs, 1, Idempotency("key", "d"))), range(8)))
    assert len(set(answers)) == 1
    assert _counts(jobs)["received"] == 1


def test_an_upload_sent_again_is_counted_once_though_the_answer_is_lost(jobs: JobStore) -> None:
    """A repeated upload is counted once, before its image is stored or in the step that accepts."""
    key = Idempotency("key", "digest", cameras=["belt"])
    first = _accept(jobs, 1, key)
    with lose_answer(lambda answer: answer is None) as lost:
        assert jobs.admit([key], "single", 1) == [Accepted(known=first)]
    assert lost == [None]
    with lose_answer(lambda answer: isinstance(answer, list) and str(answer[0]).startswith("known")) as lost:
        assert _accept(jobs, 1, key) == first
    assert len(lost) == 1
    assert _counts(jobs)["duplicates"] == 2


def test_starts_are_counted_and_forgiven(jobs: JobStore) -> None:
    """`begin` counts each once, `forgive` takes one back, and a settled job only tells its state."""
    (job_id,) = _accept(jobs)
    with lose_answer(lambda answer: answer == 1) as lost:
        assert [jobs.begin(job_id), jobs.begin(job_id)] == [1, 2]
    assert lost == [1]
    with lose_answer(lambda answer: answer is None) as lost:
        jobs.forgive([job_id])
    assert lost == [None]
    assert jobs.begin(job_id) == 2
    jobs.settle([Outcome(job_id, JobState.FAILED, error="x")], "m")
    assert jobs.begin(job_id) is JobState.FAILED
    assert jobs.begin(new_job_id()) is None


def test_cameras_are_counted_apart(jobs: JobStore) -> None:
    """Each camera has its own row."""
    _accept(jobs, 1, camera="a")
    _accept(jobs, 2, camera="b")
    assert {row.camera: row.counts["received"] for row in _rows(jobs)} == {"a": 1, "b": 2}


def test_redis_out_of_memory_accepts_nothing(jobs: JobStore) -> None:
    """A full Redis rejects the whole upload: no record, no count, no message."""
    jobs.client.config_set("maxmemory", "1")
    try:
        with pytest.raises(RedisUnavailableError):
            _accept(jobs, 2)
    finally:
        jobs.client.config_set("maxmemory", "0")
    assert jobs.pending() == 0
    assert _rows(jobs) == []


def test_the_service_rate_is_measured_while_there_is_work(jobs: JobStore) -> None:
    """One job in a quarter of a second is at most four a second; an hour without jobs changes nothing."""
    assert jobs.queue().rate is None
    (first,) = _accept(jobs)
    time.sleep(0.25)
    jobs.settle([Outcome(first, JobState.CLASSIFIED, GOOD)], "m")
    assert 0.2 < (jobs.queue().rate or 0) <= 4
    jobs.client.hset(keys.SERVICE_RATE, "since", str(jobs.now_ms() - 3_600_000))
    (second,) = _accept(jobs)
    jobs.settle([Outcome(second, JobState.CLASSIFIED, GOOD)], "m")
    assert (jobs.queue().rate or 0) > 0.2  # the longest time that a settlement can count for is 5 s


def test_cancelled_and_expired_jobs_are_no_work(jobs: JobStore) -> None:
    """Clearing the queue does not make the workers seem faster."""
    ids = _accept(jobs, 2)
    jobs.cancel(ids[0])
    jobs.settle([Outcome(ids[1], JobState.EXPIRED, error="x")], "m")
    assert jobs.queue().rate is None


def test_redis_down_is_our_error() -> None:
    """The caller sees one error of ours for every error of the client library."""
    with pytest.raises(RedisUnavailableError):
        JobStore(connect(f"redis://127.0.0.1:{free_port()}/0", timeout=0.5)).read(new_job_id())


def test_workers_report_what_they_did(jobs: JobStore) -> None:
    """A report replaces the one before, and goes with its worker."""
    WorkerRegistry(jobs.client).seen("a@host", {"batches": 1, "fetch": 0.25})
    WorkerRegistry(jobs.client).seen("a@host", {"batches": 2, "fetch": 0.5})
    WorkerRegistry(jobs.client).seen("b@host")
    reports = WorkerRegistry(jobs.client).reports()
    assert {name: set(report) for name, report in reports.items()} == {
        "a@host": {"batches", "fetch", "at"},
        "b@host": {"at"},
    }
    assert (reports["a@host"]["batches"], reports["a@host"]["fetch"]) == (2, 0.5)
    assert abs(reports["a@host"]["at"] - jobs.now_ms() / 1000) < 60
    WorkerRegistry(jobs.client).gone("a@host")
    assert set(WorkerRegistry(jobs.client).reports()) == {"b@host"}


def test_a_cancelled_job_whose_message_is_lost_is_forgotten(jobs: JobStore) -> None:
    """Its id goes when its record does, at the latest when another job is cancelled after that."""
    jobs = JobStore(jobs.client, retention_hours=1 / 3600)
    lost, later = _accept(jobs, 2)
    jobs.cancel(lost)
    assert jobs.withdrawn([lost]) == {lost}
    time.sleep(1.1)
    jobs.cancel(later)
    assert jobs.withdrawn([lost, later]) == {later}
