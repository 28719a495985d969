"""core.ids: ULIDs that do not tell each other."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from core.ids import accepted_ms, is_job_id, new_job_id, packed_id, unpacked_ids


def test_ids_sort_by_the_time_they_were_made() -> None:
    """A later id is greater, and tells when it was made."""
    first = new_job_id()
    time.sleep(0.002)
    second = new_job_id()
    assert first < second
    assert abs(accepted_ms(second) - time.time() * 1000) < 5_000


def test_an_id_is_a_ulid() -> None:
    """With the time as the library writes it, and every value of each of the other digits."""
    ids = [new_job_id() for _ in range(2000)]
    assert all(str(ULID.from_str(job_id)) == job_id for job_id in ids)
    assert [len({job_id[place] for job_id in ids}) for place in range(10, 26)] == [32] * 16


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_the_time_in_an_id_is_that_of_a_ulid(milliseconds: int, randomness: bytes) -> None:
    """We read it faster than the library, and the same."""
    ulid = ULID(milliseconds.to_bytes(6, "big") + randomness)
    assert accepted_ms(str(ulid)) == ulid.milliseconds == milliseconds


def test_ids_made_at_the_same_time_tell_nothing_of_each_other() -> None:
    """Within one millisecond they do not count up, as ULIDs may."""
    ids = [new_job_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    neighbours = [(first, second) for first, second in itertools.pairwise(ids) if first[:10] == second[:10]]
    assert neighbours
    assert not [first for first, second in neighbours if first[:24] == second[:24]]


def test_other_texts_are_no_ids() -> None:
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


@given(st.lists(st.binary(min_size=16, max_size=16)))
def test_ids_are_the_same_when_they_were_packed(raw: list[bytes]) -> None:
    """Also the smallest and the greatest; bytes that are no whole number of ids are an error."""
    ids = [str(ULID(data)) for data in [*raw, bytes(16), b"\xff" * 16]]
    packed = b"".join(map(packed_id, ids))
    assert unpacked_ids(packed) == ids
    with pytest.raises(ValueError, match="no whole number"):
        unpacked_ids(packed[:-1])
