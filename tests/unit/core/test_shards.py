"""core.shards: which images share an object, and what is in it."""

from __future__ import annotations

import io
import tarfile
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import MAX_TOGETHER_MS
from core.shards import MAX_BYTES, MAX_IMAGES, contents, pack, split

IMAGES = {f"{number}.jpeg": bytes([number]) * (500 + 3 * number) for number in range(10)}


def packed(images: dict[str, bytes]) -> bytes:
    """An archive of the images."""
    return b"".join(pack(images.items()))


def unpack(archive: bytes) -> dict[str, bytes]:
    """The images in an archive, by name."""
    return {name: archive[place] for name, place in contents(archive).items()}


@given(st.dictionaries(st.text("0123456789AZ.jpeg", min_size=1, max_size=31), st.binary(max_size=2000)))
def test_what_was_packed_comes_out(images: dict[str, bytes]) -> None:
    """Of any size, also sizes that fill the archive's blocks and those that do not."""
    assert unpack(packed(images)) == images


def test_any_tool_reads_an_archive() -> None:
    """It ends as archives end, and its parts are plain files."""
    with tarfile.open(fileobj=io.BytesIO(packed(IMAGES)), mode="r:") as opened:
        found = {member.name: opened.extractfile(member) for member in opened if member.isfile()}
        assert {name: file.read() for name, file in found.items() if file is not None} == IMAGES


def test_a_damaged_archive_gives_what_is_whole() -> None:
    """Cut off anywhere, it gives no image that is not as it was; the last ones are missing."""
    archive = packed(IMAGES)
    for length in range(0, len(archive), 100):
        found = unpack(archive[:length])
        assert found.items() <= IMAGES.items()
        assert list(found) == list(IMAGES)[: len(found)]
    assert unpack(b"no archive, but longer than a block of one" * 50) == {}


@given(st.binary(min_size=1, max_size=12), st.integers(0, 511))
def test_a_damaged_header_names_no_image(rubbish: bytes, at: int) -> None:
    """Whatever stands in it, reading ends, and gives no image that reaches beyond the archive."""
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
