"""core.image_header: what the beginning of a file tells is what the whole file says."""

from __future__ import annotations

import pytest

from core.errors import ImageTooLargeError, UnsupportedImageError
from core.image_header import read_beginning, read_header
from tests.support.images import encoded, jpeg, pattern

IMAGES = {
    "jpeg": jpeg(),
    "progressive": encoded(pattern(seed=1), progressive=True),
    "with EXIF": encoded(pattern(seed=2), exif=b"Exif\0\0" + bytes(3000)),
    "png": encoded(pattern(seed=3, mode="P"), "PNG"),
    "webp": encoded(pattern(seed=4), "WEBP"),
    "webp with EXIF": encoded(pattern(seed=5), "WEBP", exif=b"Exif\0\0" + bytes(100)),
}


@pytest.mark.parametrize("name", IMAGES)
def test_a_beginning_tells_the_header_or_nothing(name: str) -> None:
    """Cut off anywhere behind the first bytes: never another size, format or number of scans."""
    data = IMAGES[name]
    told = [length for length in range(12, len(data)) if _tells(data, length)]
    assert len(told) > 500 or name not in {"jpeg", "with EXIF", "png"}


def _tells(data: bytes, length: int) -> bool:
    header = read_beginning(data[:length])
    assert header in {None, read_header(data)}
    return header is not None


def test_what_no_image_begins_with_is_told() -> None:
    """The rest need not be read."""
    with pytest.raises(UnsupportedImageError):
        read_beginning(b"GIF89a" + bytes(100))
    frame = jpeg().index(b"\xff\xc0") + 5
    with pytest.raises(ImageTooLargeError):
        read_beginning(jpeg()[:frame] + b"\xf0\xf0\xf0\xf0" + jpeg()[frame + 4 : -100])
