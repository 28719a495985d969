"""core.shards: the images that share an object, its key, and its bytes."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import MAX_TOGETHER_MS
from core.ids import accepted_ms, is_job_id
from core.shards import (
    MAX_BYTES,
    MAX_IMAGES,
    Shard,
    StoredObject,
    contents,
    image_key,
    job_id_of,
    object_key,
    pack,
    split,
)

IMAGES = {f"{number}.jpeg": bytes([number]) * (500 + 3 * number) for number in range(10)}


def packed(images: dict[str, bytes]) -> bytes:
    """An archive of the images."""
    return b"".join(pack(images.items()))


def unpack(archive: bytes) -> dict[str, bytes]:
    """The images in an archive, by name."""
    return {name: archive[place] for name, place in contents(archive).items()}


@given(st.dictionaries(st.text("0123456789AZ.jpeg", min_size=1, max_size=31), st.binary(max_size=2000)))
def test_what_was_packed_comes_out(images: dict[str, bytes]) -> None:
    """Images of any size, multiples of the archive's blocks and others."""
    assert unpack(packed(images)) == images


def test_any_tool_reads_an_archive() -> None:
    """It ends as archives end, and its parts are plain files."""
    with tarfile.open(fileobj=io.BytesIO(packed(IMAGES)), mode="r:") as opened:
        files = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
        assert {name: file.read() for name, file in files.items() if file is not None} == IMAGES


def test_a_damaged_archive_gives_what_is_whole() -> None:
    """Cut off anywhere, it gives no image that is not as it was; the last ones are missing."""
    archive = packed(IMAGES)
    for length in range(0, len(archive), 100):
        images = unpack(archive[:length])
        assert images.items() <= IMAGES.items()
        assert list(images) == list(IMAGES)[: len(images)]
    assert unpack(b"no archive, but longer than a block of one" * 50) == {}


@given(st.binary(min_size=1, max_size=12), st.integers(0, 511))
def test_a_damaged_header_names_no_image(rubbish: bytes, at: int) -> None:
    """Reading ends for any bytes, and returns no image that reaches beyond the archive."""
    archive = packed(IMAGES)
    damaged = archive[:at] + rubbish + archive[at + len(rubbish) :]
    assert all(0 <= place.start <= place.stop <= len(damaged) for place in contents(damaged).values())


def test_a_name_must_fit() -> None:
    """A cut-off name could be another image's."""
    with pytest.raises(ValueError, match="too long"):
        packed({"x" * 101: b""})


@given(st.lists(st.tuples(st.integers(1, 10 * 1024 * 1024), st.integers(0, 2_000)), min_size=1, max_size=64))
def test_images_share_objects_of_bounded_size_and_cost(images: list[tuple[int, int]]) -> None:
    """Each image is in one of them, in order; a large or dear one may be alone; none could take the next."""
    shards = split(images)
    assert [number for shard in shards for number in shard] == list(range(len(images)))

    def fits(numbers: range) -> bool:
        sizes, costs = zip(*(images[number] for number in numbers), strict=True)
        return len(numbers) <= MAX_IMAGES and sum(sizes) <= MAX_BYTES and sum(costs) <= MAX_TOGETHER_MS

    assert all(len(shard) == 1 or fits(shard) for shard in shards)
    assert not any(fits(range(shard.start, following.start + 1)) for shard, following in pairwise(shards))


def test_an_image_key_names_camera_day_and_job() -> None:
    """The key follows from the job, and gives the job's id back."""
    key = image_key("01ARZ3NDEKTSV4RRFFQ69G5FAV", "belt-7", "jpeg")
    assert key == object_key(key) == "images/belt-7/2016/07/30/01ARZ3NDEKTSV4RRFFQ69G5FAV.jpeg"
    assert job_id_of(key) == "01ARZ3NDEKTSV4RRFFQ69G5FAV"
    assert Shard.at(key) == Shard(key, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)
    assert Shard.at(key).job_ids == ["01ARZ3NDEKTSV4RRFFQ69G5FAV"]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [1, 2, 16])
def test_the_name_of_an_object_tells_its_jobs(count: int) -> None:
    """A listing of the bucket gives all jobs, and each job's record gives the place of its image."""
    shard = Shard.new([("x.tar", "png")] * count)
    ids = shard.job_ids
    assert len(ids) == count
    assert all(is_job_id(job_id) for job_id in ids)
    keys = [shard.image_key(job_id, "x.tar", "png") for job_id in ids]
    assert keys == [image_key(job_id, "x.tar", "png", shard.suffix) for job_id in ids]
    assert [job_id_of(key) for key in keys] == ids
    assert {object_key(key) for key in keys} == {shard.key}
    assert Shard.at(shard.key) == shard
    assert shard.accepted_ms == accepted_ms(ids[-1])


def test_other_objects_are_no_shards() -> None:
    """They have names of other forms."""
    first = Shard.new([("belt", "jpeg")]).id
    for name in ("notes.jpeg", "notes-16.tar", ".ping", f"{first}", f"{first}.tar", f"{first}-notes.jpeg"):
        assert Shard.at(f"images/belt/{name}") is None
    for count in ("", "0", "1", "100", "016", "-2", "x", "16.tar"):
        assert Shard.at(f"images/belt/{first}-{count}.tar") is None


@pytest.mark.parametrize("count", [1, 3])
def test_an_object_gives_its_images_back(count: int) -> None:
    """An image by itself is the object; of several, each is found by its key."""
    shard = Shard.new([("belt", "jpeg")] * count)
    keys = [shard.image_key(job_id, "belt", "jpeg") for job_id in shard.job_ids]
    images = {key: bytes([number]) * (700 + number) for number, key in enumerate(keys)}
    packed = shard.pack(list(images.items()))
    stored = StoredObject(shard.key, memoryview(b"".join(packed) if isinstance(packed, list) else packed))
    assert {key: bytes(stored.image(key)) for key in keys} == images


def test_the_ids_in_a_shard_tell_nothing_of_each_other() -> None:
    """They have its time, and are as different as any: each of the other digits takes every value."""
    shards = [Shard.new([("belt", "jpeg")] * 16) for _ in range(200)]
    ids = [job_id for shard in shards for job_id in shard.job_ids]
    assert len(set(ids)) == 3200
    assert {job_id[10:] for job_id in ids}.isdisjoint(shard.id[10:] for shard in shards)
    assert all(
        {accepted_ms(job_id) for job_id in shard.job_ids} == {accepted_ms(shard.id)} for shard in shards
    )
    assert [len({job_id[place] for job_id in ids}) for place in range(10, 26)] == [32] * 16
    assert Shard("", shards[0].id, 2).job_ids == ids[:2]


def test_an_image_that_its_client_stores_has_a_folder_of_no_camera() -> None:
    """Its key is known from the job's record, and tells the job, like others."""
    shard = Shard.direct("png")
    key = image_key(shard.id, "belt", "png", shard.suffix)
    assert key == shard.key == shard.image_key(shard.id, "belt", "png") == object_key(key)
    assert key.startswith("images/_direct/")
    assert Shard.at(key) == shard
    assert (job_id_of(key), shard.job_ids) == (shard.id, [shard.id])
    assert image_key(shard.id, "belt", "png") == image_key(shard.id, "belt", "png", "") != key
