"""core.jobs: ids, keys and what the API shows."""

from __future__ import annotations

import itertools
import time

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from core.jobs import (
    Job,
    JobState,
    Shard,
    accepted_ms,
    image_key,
    is_job_id,
    job_id_of,
    job_ids_in,
    new_job_id,
    object_key,
    timestamp,
)
from core.model.manifest import Prediction


def test_ids_sort_by_the_time_they_were_made() -> None:
    """A later id is greater, and tells when it was made."""
    first = new_job_id()
    time.sleep(0.002)
    second = new_job_id()
    assert first < second
    assert abs(accepted_ms(second) - time.time() * 1000) < 5_000


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_the_time_in_an_id_is_that_of_a_ulid(milliseconds: int, randomness: bytes) -> None:
    """We read it faster than the library, and the same."""
    ulid = ULID(milliseconds.to_bytes(6, "big") + randomness)
    assert accepted_ms(str(ulid)) == ulid.milliseconds == milliseconds


def test_an_image_key_names_camera_day_and_job() -> None:
    """The key is made of what we know, and gives the job's id back."""
    key = image_key("01ARZ3NDEKTSV4RRFFQ69G5FAV", "belt-7", "jpeg")
    assert key == "images/belt-7/2016/07/30/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpeg"
    assert job_id_of(key) == "01ARZ3NDEKTSV4RRFFQ69G5FAV"


def test_images_that_share_an_object_are_told_by_its_name() -> None:
    """It holds the shard's id, which tells the jobs' ids: whoever lists the bucket knows all the jobs."""
    shard = Shard.new(16)
    ids = shard.job_ids
    keys = [image_key(job_id, "x.tar", "png", shard) for job_id in ids]
    (name,) = {object_key(key) for key in keys}
    assert [job_id_of(key) for key in keys] == ids == job_ids_in(name)
    assert all(is_job_id(job_id) for job_id in ids)
    assert Shard.named(shard.name) == Shard.of(ids[7], shard.suffix) == shard

    alone = image_key(ids[3], "x.tar", "png")
    assert object_key(alone) == alone
    assert object_key(name) == name
    assert job_ids_in(alone) == [ids[3]]
    first = shard.id
    for other in ("notes.jpeg", "notes-16.tar", ".ping", f"{first}", f"{first}.tar", f"{first}-notes.jpeg"):
        assert job_ids_in(f"images/belt/{other}") == []
    for other in ("", "0", "1", "100", "016", "-2", "x", "16.tar"):
        assert job_ids_in(f"images/belt/{first}-{other}.tar") == []


def test_the_ids_in_a_shard_tell_nothing_of_each_other() -> None:
    """They have its time, and are as different as any: each of the other digits takes every value."""
    shards = [Shard.new(16) for _ in range(200)]
    ids = [job_id for shard in shards for job_id in shard.job_ids]
    assert len(set(ids)) == 3200
    assert {job_id[10:] for job_id in ids}.isdisjoint(shard.id[10:] for shard in shards)
    assert all(
        {accepted_ms(job_id) for job_id in shard.job_ids} == {accepted_ms(shard.id)} for shard in shards
    )
    assert [len({job_id[place] for job_id in ids}) for place in range(10, 26)] == [32] * 16
    assert Shard(shards[0].id, 2).job_ids == ids[:2]


def test_ids_made_at_the_same_time_tell_nothing_of_each_other() -> None:
    """Within one millisecond they do not count up, as ULIDs may."""
    ids = [new_job_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    neighbours = [(one, two) for one, two in itertools.pairwise(ids) if one[:10] == two[:10]]
    assert neighbours
    assert not [one for one, two in neighbours if one[:24] == two[:24]]


def test_what_is_no_id_is_told_apart() -> None:
    """Ids are 26 characters of Crockford's base 32 and fit 128 bits."""
    assert is_job_id(new_job_id())
    for text in (
        "",
        "x",
        "8ZZZZZZZZZZZZZZZZZZZZZZZZZ",
        new_job_id().lower(),
        new_job_id() + "0",
        "../../etc/passwd",
    ):
        assert not is_job_id(text)


def test_a_settled_job_shows_its_prediction() -> None:
    """The JSON carries times in UTC and the prediction with the model that made it."""
    prediction = Prediction("biodegradable", 0.98765432, review=False)
    job = Job(
        "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        JobState.CLASSIFIED,
        "belt",
        "jpeg",
        9,
        None,
        None,
        None,
        1469922850260,
        prediction,
        "1+ab",
        None,
    )
    shown = job.to_json()
    assert shown["accepted_at"] == "2016-07-30T23:54:10.259Z"
    assert shown["settled_at"] == "2016-07-30T23:54:10.260Z"
    assert shown["prediction"] == {
        "label": "biodegradable",
        "probability": 0.987654,
        "review": False,
        "model": "1+ab",
    }


def test_only_queued_is_not_terminal() -> None:
    """Every state but one is final."""
    assert [state for state in JobState if not state.terminal] == [JobState.QUEUED]
    assert timestamp(None) is None
