"""core.images: whatever the bytes, the answer is an array or one of our errors."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ImageError
from core.images import SIDE, decode
from tests.support.pictures import encoded, picture

_SEEDS = [encoded(picture(40, 30), name) for name in ("JPEG", "PNG", "WEBP")] + [
    encoded(picture(40, 30, mode="CMYK")),
    encoded(picture(40, 30, mode="P"), "PNG"),
    encoded(picture(40, 30).convert("RGBA"), "PNG"),
]

_edits = st.lists(
    st.tuples(st.sampled_from(["set", "cut", "repeat"]), st.floats(0, 1), st.binary(min_size=1, max_size=8)),
    min_size=1,
    max_size=6,
)


def _mutated(data: bytes, edits: list[tuple[str, float, bytes]]) -> bytes:
    for kind, where, value in edits:
        at = int(where * len(data))
        if kind == "set":
            data = data[:at] + value + data[at + len(value) :]
        elif kind == "cut":
            data = data[:at] + data[at + value[0] :]
        else:
            data = data[:at] + data[max(0, at - value[0]) :]
    return data


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.sampled_from(_SEEDS), edits=_edits)
def test_a_damaged_image_is_an_array_or_an_error_of_ours(
    seed: bytes, edits: list[tuple[str, float, bytes]]
) -> None:
    """Bytes overwritten, cut out and repeated anywhere in real files."""
    try:
        pixels = decode(_mutated(seed, edits))
    except ImageError:
        return
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
