"""core.cost: estimated cost of decoding."""

from __future__ import annotations

import pytest
from PIL import Image

from core.cost import MAX_COST_MS, MAX_TOGETHER_MS, decode_ms, is_huge
from core.image_header import MAX_PIXELS, ImageHeader, read_header
from tests.support.images import encoded, pattern

_FULL_HD = pattern(1920, 1080)


def test_usual_frames_cost_nothing_worth_saying() -> None:
    """Batches of them are bounded by their number alone."""
    data = encoded(_FULL_HD)
    assert decode_ms(read_header(data), len(data)) == 0


def test_a_jpeg_says_how_often_a_decoder_goes_over_it() -> None:
    """All coefficients of a progressive one are gone through in each scan."""
    assert read_header(encoded(_FULL_HD)).scans == 1
    assert read_header(encoded(_FULL_HD, progressive=True)).scans == 10


@pytest.mark.parametrize("image_format", ["PNG", "WEBP"])
def test_the_largest_images_are_huge(image_format: str) -> None:
    """50 million pixels of one colour are few bytes and much work."""
    data = encoded(Image.new("L", (10_000, 5_000), 7), image_format)
    cost = decode_ms(read_header(data), len(data))
    assert is_huge(cost)
    assert MAX_TOGETHER_MS < cost < MAX_COST_MS


def test_a_large_jpeg_is_not_huge_unless_it_comes_in_scans() -> None:
    """Most of its pixels are never made."""
    sides = MAX_PIXELS // 5_000, 5_000
    assert not is_huge(decode_ms(ImageHeader("jpeg", *sides), 10_000_000))
    assert is_huge(decode_ms(ImageHeader("jpeg", *sides, scans=15), 1_000_000))
