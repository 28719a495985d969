"""core.images: any bytes become an array or one of our errors."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from core.errors import CorruptImageError, ImageError, ImageTooLargeError
from core.image_header import MAX_BYTES, read_header
from core.images import SIDE, decode
from tests.fuzz.images import decode_all
from tests.support import bombs
from tests.support.images import encoded, jpeg, pattern
from tests.support.mutations import case


def test_hostile_images_are_arrays_or_errors_of_ours() -> None:
    """The first of the cases that `python -m tests.fuzz.images` goes on with."""
    counts = decode_all(range(3_000), seed=0)
    assert counts.wrong == []
    assert counts.outcomes["array"] > 500
    assert counts.outcomes["CorruptImageError"] > 500


def test_a_case_is_known_by_its_number() -> None:
    """A failing case can be made again."""
    assert [case(number) for number in range(50)] == [case(number) for number in range(50)]
    assert len({case(number) for number in range(50)}) > 40


@pytest.mark.parametrize("make", bombs.REJECTED, ids=lambda make: str(make.__name__))
def test_a_bomb_is_rejected_by_its_header(make: Callable[[], bytes]) -> None:
    """The header check rejects in milliseconds an image that takes a decoder up to 50 seconds."""
    data = make()
    assert len(data) <= MAX_BYTES
    began = time.process_time()
    with pytest.raises(ImageError, match=r"more than|65535x65000|header cannot be read"):
        read_header(data)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("make", bombs.FAILING, ids=lambda make: str(make.__name__))
def test_a_bomb_that_its_header_hides_fails_soon(make: Callable[[], bytes]) -> None:
    """The decode stops reading, and does not believe a second size."""
    data = make()
    read_header(data)
    began = time.process_time()
    with pytest.raises((CorruptImageError, ImageTooLargeError), match=r"more than|50000x50000"):
        decode(data)
    assert time.process_time() - began < 2


@pytest.mark.parametrize("make", bombs.HARMLESS, ids=lambda make: str(make.__name__))
def test_large_metadata_is_no_harm(make: Callable[[], bytes]) -> None:
    """Ten megabytes beside the pixels do not keep the picture from being seen, and cost no time."""
    data = make()
    began = time.process_time()
    assert decode(data).shape == (SIDE, SIDE, 3)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("size", [(65_500, 1), (1, 65_500), (65_500, 700)])
def test_strips_are_squeezed(size: tuple[int, int]) -> None:
    """As wide or high as a JPEG can be."""
    header = read_header(encoded(pattern(*size)))
    assert (header.width, header.height) == size
    assert decode(encoded(pattern(*size))).shape == (SIDE, SIDE, 3)


@pytest.mark.parametrize("tail", [b"PK\x03\x04zip", b"<script>", encoded(image_format="PNG")])
def test_what_follows_the_picture_is_ignored(tail: bytes) -> None:
    """A file that is also something else is the picture that its first bytes announce."""
    assert (decode(jpeg() + tail) == decode(jpeg())).all()


@pytest.mark.parametrize(
    ("image_format", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True}),
        ("JPEG", {"restart_marker_blocks": 1, "quality": 5}),
        ("PNG", {}),
        ("WEBP", {}),
        ("WEBP", {"lossless": True}),
        ("WEBP", {"lossless": True, "exif": b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x00\x00"}),
    ],
)
@pytest.mark.parametrize("size", [(1, 1), (300, 200), (255, 257)])
def test_every_encoders_header_is_read(
    image_format: str, options: dict[str, int], size: tuple[int, int]
) -> None:
    """Size and format agree with the decoder's."""
    header = read_header(encoded(pattern(*size), image_format, **options))
    assert (header.format.upper(), header.width, header.height) == (image_format, *size)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_header_cut_off_anywhere_is_corrupt(image_format: str) -> None:
    """A header cut anywhere is an error of ours."""
    data = encoded(image_format=image_format)
    end = data.index({"JPEG": b"\xff\xda", "PNG": b"IDAT", "WEBP": b"VP8"}[image_format])
    for length in range(12, end):
        with pytest.raises(CorruptImageError, match="header cannot be read"):
            read_header(data[:length])
