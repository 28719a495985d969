"""The list of jobs on a real Redis: in the order of acceptance, page by page, while there are records."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from flask.testing import FlaskClient

from core.ids import accepted_ms, new_job_id
from core.jobs import Job, JobState, Outcome
from core.redis import job_index, keys
from core.redis.admission import Accepted, Idempotency, RateLimit, Submission
from core.redis.camera_names import CameraNames
from core.redis.job_index import Cursor, JobFilter, JobIndex
from core.redis.job_store import JobStore
from core.shards import Shard
from tests.support.cuts import lose_answer
from tests.support.stream import upload, upload_bulk

QUEUE = "test.queue"
ANY = JobFilter(0)


@pytest.fixture
def index(jobs: JobStore) -> JobIndex:
    """The list."""
    return JobIndex(jobs.client)


def _listed(index: JobIndex, wanted: JobFilter = ANY, limit: int = 1000) -> list[str]:
    """Return all ids of the list, read in pages of `limit`."""
    ids: list[str] = []
    after: Cursor | None = None
    while True:
        page = index.page(wanted, after, limit)
        assert len(page.ids) <= limit
        ids += page.ids
        if page.next is None:
            return ids
        after = Cursor.parse(str(page.next))


def _accept(jobs: JobStore, count: int = 1, camera: str = "belt", owner: str = "") -> list[str]:
    """Accept jobs that share an object."""
    shard = Shard.new([(camera, "jpeg")] * count)
    new = [Job(job_id, camera, "jpeg", 1, shard=shard.suffix) for job_id in shard.job_ids]
    jobs.accept_many([Submission(new, owner=owner)], "bulk", QUEUE, ["message"])
    return shard.job_ids


def _accept_together(jobs: JobStore, count: int) -> list[str]:
    """Accept single images that came at the same time, and so share an object."""
    shard = Shard.new([("belt", "jpeg")] * count)
    new = [Job(job_id, "belt", "jpeg", 1, shard=shard.suffix) for job_id in shard.job_ids]
    jobs.accept_many([Submission([job]) for job in new], "single", QUEUE, ["message"])
    return shard.job_ids


def _fail(jobs: JobStore, ids: Sequence[str]) -> None:
    jobs.settle([Outcome(job_id, JobState.FAILED, error="x") for job_id in ids], "m")


def test_every_kind_of_upload_is_listed_in_the_order_of_acceptance(
    client: FlaskClient, jobs: JobStore, index: JobIndex
) -> None:
    """Single images, bulk uploads and groups of single ones; pages of any size lose and repeat none."""
    ids = [upload(client), *upload_bulk(client, 37), *_accept_together(jobs, 5), upload(client)]
    assert _listed(index) == ids
    for limit in (1, 7, 16, len(ids)):
        assert _listed(index, limit=limit) == ids


def test_it_can_be_filtered(jobs: JobStore, index: JobIndex) -> None:
    """By state, camera, sender and time; what never was gives nothing."""
    first, second = _accept(jobs, 3, "belt-1", "key"), _accept(jobs, 3, "belt-2")
    _fail(jobs, [first[1], second[0]])
    failed = frozenset({JobState.FAILED})
    assert _listed(index, JobFilter(0, states=failed)) == [first[1], second[0]]
    assert _listed(index, JobFilter(0, states=failed | {JobState.QUEUED})) == [*first, *second]
    assert _listed(index, JobFilter(0, camera="belt-2")) == second
    assert _listed(index, JobFilter(0, camera="belt")) == []
    assert _listed(index, JobFilter(0, states=failed, camera="belt-2", owner="key")) == []
    assert _listed(index, JobFilter(0, owner="key")) == first
    assert _listed(index, JobFilter(0, states=frozenset({JobState.CANCELLED}))) == []

    accepted = accepted_ms(first[0])
    assert _listed(index, JobFilter(accepted, accepted + 1))[:3] == first
    assert _listed(index, JobFilter(0, accepted)) == []
    assert _listed(index, JobFilter(accepted_ms(second[0]) + 1)) == []


def test_what_is_accepted_meanwhile_does_not_belong_to_a_list_that_was_begun(
    jobs: JobStore, index: JobIndex
) -> None:
    """So the pages end, however fast jobs come."""
    ids = _accept(jobs, 4)
    page = index.page(ANY, None, 2)
    while jobs.now_ms() <= page.places[0].until_ms:
        time.sleep(0.001)
    later = _accept(jobs, 4)
    following = index.page(ANY, page.next, 1000)
    assert ([*page.ids, *following.ids], following.next) == (ids, None)
    assert _listed(index) == [*ids, *later]


def test_one_page_looks_at_a_bounded_number_of_jobs(
    jobs: JobStore, index: JobIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where few match it is short, or empty, and says where to go on."""
    monkeypatch.setattr(job_index, "MAX_READ", 100)
    monkeypatch.setattr(job_index, "_ENTRIES", 5)
    for _ in range(12):
        last = _accept(jobs, 16)[-1]
    _fail(jobs, [last])
    page = index.page(JobFilter(0, states=frozenset({JobState.FAILED})), None, 10)
    assert page.ids == []
    assert page.next is not None
    assert index.page(JobFilter(0, states=frozenset({JobState.FAILED})), page.next, 10).ids == [last]


def test_only_what_was_accepted_is_listed_and_once(jobs: JobStore, index: JobIndex) -> None:
    """Not what a limit rejected, nor a duplicate; a call whose answer was lost is not listed twice."""
    limit = RateLimit("slow", 0.001, 1)
    shard = Shard.new([("belt", "jpeg")] * 3)
    new = [Job(job_id, "belt", "jpeg", 1, shard=shard.suffix) for job_id in shard.job_ids]
    submissions = [Submission([new[0]], None, limit), Submission([new[1]], None, limit), Submission([new[2]])]
    with lose_answer(
        lambda answer: isinstance(answer, list) and str(answer[0]).startswith("accepted")
    ) as lost:
        outcomes = jobs.accept_many(submissions, "bulk", QUEUE, ["message"])
    assert lost
    assert [isinstance(outcome, Accepted) for outcome in outcomes] == [True, False, True]
    ids = [new[0].id, new[2].id]
    assert _listed(index) == ids

    once = Idempotency("once", "digest")
    for _ in range(2):
        known = jobs.accept([Job(new_job_id(), "belt", "jpeg", 1)], "single", QUEUE, ["message"], once).ids
    assert _listed(index) == [*ids, *known]
    assert jobs.client.xlen(keys.ACCEPTED) == 2


def test_jobs_of_a_forgotten_camera_stay_listed(jobs: JobStore, index: JobIndex) -> None:
    """The ledger loses its rows, the jobs keep their records."""
    ids = _accept(jobs, 2, "gone")
    _fail(jobs, ids)
    CameraNames(jobs.client, retention=3600).forget("gone")
    assert _listed(index, JobFilter(0, camera="gone")) == ids


def test_entries_are_forgotten_after_the_records_of_their_jobs(
    jobs: JobStore, index: JobIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest first; an entry stays while a job of it has a record, and so do those behind it."""
    old, waiting, settled = _accept(jobs, 3), _accept(jobs, 2), _accept(jobs)
    many = [_accept(jobs)[0] for _ in range(12)]
    monkeypatch.setattr(job_index, "_ENTRIES", 5)
    now = jobs.now_ms() + 1
    assert index.forget(now) == 0
    jobs.client.delete(*map(keys.job, [*old[:2], *waiting, *settled]))
    assert index.forget(now) == 0
    jobs.client.delete(keys.job(old[2]), *map(keys.job, many[:-1]))
    assert index.forget(1) == 0
    assert index.forget(now) == 1 + 1 + 1 + 11
    assert _listed(index) == [many[-1]]
    jobs.client.delete(keys.job(many[-1]))
    assert _listed(index) == []
    assert index.forget(now) == 1
    assert jobs.client.xlen(keys.ACCEPTED) == 0


def test_it_is_read_and_forgotten_while_redis_has_no_memory_left(jobs: JobStore, index: JobIndex) -> None:
    """What was accepted before stays listed; what is rejected is not."""
    ids = _accept(jobs)
    jobs.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(Exception, match="no memory"):
            _accept(jobs)
        assert _listed(index) == ids
        jobs.client.delete(keys.job(ids[0]))
        assert index.forget(jobs.now_ms() + 1) == 1
    finally:
        jobs.client.config_set("maxmemory", 0)
    assert _listed(index) == []
