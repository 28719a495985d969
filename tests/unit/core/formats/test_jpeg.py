"""core.formats.jpeg: the walk over the scans of a progressive file."""

from __future__ import annotations

import re

import pytest

from core.formats import jpeg
from core.formats.layout import ImageBytes
from tests.support.images import encoded, pattern


class Counted:
    """The pattern of a scan's end, with the number of bytes that it has searched."""

    def __init__(self, compiled: re.Pattern[bytes]) -> None:
        self._compiled = compiled
        self.searched = 0

    def search(self, data: ImageBytes, at: int, end: int) -> re.Match[bytes] | None:
        """Search as the pattern does."""
        match = self._compiled.search(data, at, end)
        self.searched += (match.end() if match else end) - at
        return match


def test_the_scans_are_walked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quarter of a megabyte of restart markers in the last scan is searched once, by check and decode."""
    image = encoded(pattern(64, 64), "JPEG", progressive=True)
    middle = len(image) - 8
    data = image[:middle] + b"\xff\xd0" * (1 << 17) + image[middle:]
    counted = Counted(jpeg._IN_SCAN)
    monkeypatch.setattr(jpeg, "_IN_SCAN", counted)
    source = jpeg.jpeg_source(data, jpeg.read_jpeg(data))
    assert source.ending == (b"\x00", b"\xff\xd1", b"\x00", b"\xff\xd9")
    assert counted.searched <= len(data)


@pytest.mark.parametrize("after", [0, 1, 4_093, 4_094, 4_095, 4_096, 9_000])
def test_the_next_restart_follows_the_last_one(after: int) -> None:
    """Wherever the last one lies, also across two blocks of the search; without any it is the first."""
    for number in range(8):
        data = b"\xff\xd5\x01\xff" + bytes((0xD0 + number,)) + b"\x01" * after
        assert jpeg._next_restart(data, 0, len(data)) == bytes((0xFF, 0xD0 + (number + 1) % 8))
    data = b"\xff\x00" + b"\x01" * after + b"\xff"
    assert jpeg._next_restart(data, 0, len(data)) == b"\xff\xd0"
