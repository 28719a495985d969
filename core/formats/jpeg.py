"""Structure of JPEG files (ITU-T T.81, annex B)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

from core.errors import CorruptImageError
from core.formats.layout import (
    MAX_PARTS,
    MAX_SEGMENTS,
    ImageBytes,
    Layout,
    too_many_parts,
    unreadable,
    without,
)

MAX_SCANS: Final = 100
"""Maximum scans. Encoders write 1-14; a decoder goes over the whole picture once for each."""

_MARKER: Final = re.compile(rb"\xff[^\x00\xff]")
"""A marker. Fill bytes may come before it; a pattern with `\\xff+` takes time by their number squared."""

_IN_SCAN: Final = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
"""End of a scan's data: a marker other than a restart marker."""

_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SEQUENTIAL: Final = frozenset({0xC0, 0xC1})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_HUFFMAN: Final = frozenset({0xC0, 0xC1, 0xC2})
_EOI: Final = 0xD9
_SOS: Final = 0xDA
_APP0: Final = 0xE0
_APP1: Final = 0xE1
_APP14: Final = 0xEE
_TABLES: Final = frozenset({0xC4, 0xCC, 0xDB, 0xDD})  # DHT, DAC, DQT, DRI
_NO_CODES: Final = frozenset({0x00, 0xFF})  # what no marker ends with
_WHOLE_JFIF: Final = 14  # bytes, as libjpeg wants them
_WHOLE_ADOBE: Final = 12
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD9)})

_END: Final = b"\xff\xd9"
_PADDING: Final = b"\x00\xff\r\n"
"""Bytes in the place of the end marker."""

_MAX_PADDING: Final = 4
"""Bytes like padding that may still be the last bytes of the pixels."""

_MAX_FILL: Final = 65_536
"""Most bytes between segments in all. Cameras pad by a few; looking for a marker takes 40 ns a byte."""

_ONES: Final = b"\xff\x00" * 8
"""64 bits that are 1, as they come before every marker. libjpeg reads up to 57 bits ahead.

No code consists of ones only, so they complete no pixels but two blocks at the most.
"""

_ALIKE: Final = bytes(0xD0 if 0xD0 <= byte <= 0xD7 else byte for byte in range(256))  # noqa: PLR2004 - T.81
"""Translation that makes all restart markers equal."""

_BLOCK: Final = 4096  # bytes looked at together from the end of the file

_ALL_COEFFICIENTS: Final = (1 << 64) - 1


@dataclass(slots=True)
class JpegLayout(Layout):
    """Layout of a JPEG file, with its frame header's code and where its body begins.

    `walk`: the scans of a file whose decoder reads all of them before it gives the first row, else None.
    """

    coding: int = 0
    frame: int = 0
    walk: Walk | None = None


@dataclass(frozen=True, slots=True)
class Walk:
    """Scans of a file: begin and end of each, and the place of the end marker, if any."""

    scans: list[tuple[int, int]]
    end_marker: int | None

    def until(self, end: int) -> Walk:
        """Return the walk that ends before `end`, at the padding or the last end marker of the file."""
        scans = [(start, min(stop, end)) for start, stop in self.scans if start < end]
        return Walk(scans, self.end_marker if self.end_marker is not None and self.end_marker < end else None)


@dataclass(frozen=True, slots=True)
class JpegSource:
    """Bytes for the decoder, and the pieces that follow them if the end is missing."""

    data: ImageBytes
    ending: tuple[bytes, ...] = ()


def read_jpeg(data: ImageBytes) -> JpegLayout:
    """Return the layout up to the first scan, and count the scans.

    The decoder gets the tables, the frame header, and of the application segments those two that say how
    colours are coded, if they are as long as libjpeg wants them: JFIF and Adobe.

    Raises:
        CorruptImageError, IndexError, struct.error: it is damaged, or has more parts than a picture needs.
    """
    layout = JpegLayout(0, 0, 0, [], None)
    dropped = layout.dropped
    at, needed, fill = 2, 0, _MAX_FILL
    for _ in range(MAX_PARTS):  # The API runs this for every upload: no call that is not needed.
        start = _next_marker(data, at, fill)
        if start > at:
            dropped.append((at, start))
            fill -= start - at
        code = data[start + 1]
        if code in _WITHOUT_LENGTH:
            at = start + 2
            dropped.append((start, at))
            continue
        body, at = start + 4, start + 2 + max(2, data[start + 2] << 8 | data[start + 3])
        if code in _TABLES:
            needed += 1
        elif code in _SOF:
            needed += 1
            layout.coding, layout.frame = code, body
            layout.height, layout.width = struct.unpack_from(">HH", data, body + 1)
        elif code == _SOS:
            layout.pixels = start
            break
        elif code == _EOI:
            raise unreadable("JPEG")
        elif not _states_colours(code, data, body, at):
            dropped.append((start, at))
            if code == _APP1 and layout.exif is None and data[body : body + 6] == b"Exif\x00\x00":
                layout.exif = slice(body + 6, at)
    else:
        raise too_many_parts("JPEG", MAX_PARTS)
    _check_limits(data, layout, needed)
    return layout


def jpeg_source(data: ImageBytes, layout: JpegLayout) -> JpegSource:
    """Return the bytes for the decoder.

    Many cameras leave the end marker out, or write something else in its place; some lose pixels and write
    it all the same. So it is taken away and supplied, in a way that tells whether the pixels are all there:
    libjpeg would fill those missing with grey.

    - If the file has one scan, its decoder is done once the last row is there. So it gets no end marker,
      only bits enough to read ahead, and asks for more if a row is missing.
    - Else the decoder reads on until it finds the marker. Between scans it drops whatever byte it is given;
      within one it keeps the byte, for its bits. So it gets single bytes and must take each of them. If it
      waits for a restart marker, it gets that one first.

    Raises:
        CorruptImageError: a whole scan is missing.
    """
    if layout.coding not in _HUFFMAN:
        return _as_it_is(data, layout)
    end = _padded_at(data)
    if data[end - 2 : end] == _END:
        end -= len(_END)
        if layout.walk is None:  # Most cameras' images, and the scan's end need not be looked for.
            return JpegSource(_up_to(end, data, layout))
    else:
        end += len(bytes(data[end : end + _MAX_PADDING]).partition(b"\xff")[0])
    walk = layout.walk.until(end) if layout.walk else _walk(data, layout.pixels, end)
    scans = walk.scans
    if walk.end_marker is not None:
        return _as_it_is(data, layout)
    if layout.walk is None:
        return JpegSource(_up_to(scans[0][1], data, layout))
    if not _all_scanned(data, layout, scans):
        raise CorruptImageError("The JPEG image is cut off (it lacks whole scans); send it again.")
    restart = _next_restart(data, *scans[-1])
    return JpegSource(_up_to(scans[-1][1], data, layout), (b"\x00", restart, b"\x00", _END))


def _up_to(end: int, data: ImageBytes, layout: JpegLayout) -> bytes:
    return b"".join([*without(data, layout.dropped, 0, end), _ONES])


def _as_it_is(data: ImageBytes, layout: JpegLayout) -> JpegSource:
    return JpegSource(b"".join(without(data, layout.dropped, 0, len(data))) if layout.dropped else data)


def _next_marker(data: ImageBytes, at: int, fill: int) -> int:
    if data[at] == 0xFF and data[at + 1] not in _NO_CODES:  # noqa: PLR2004 - as every marker begins
        return at
    marker = _MARKER.search(data, at, at + fill)
    if marker is None:
        raise unreadable("JPEG")
    return marker.start()


def _length(data: ImageBytes, at: int) -> int:
    (length,) = struct.unpack_from(">H", data, at)
    return max(2, int(length))


def _states_colours(code: int, data: ImageBytes, body: int, stop: int) -> bool:
    if code == _APP0:
        return data[body : body + 5] == b"JFIF\x00" and stop - body >= _WHOLE_JFIF
    return code == _APP14 and data[body : body + 5] == b"Adobe" and stop - body >= _WHOLE_ADOBE


def _check_limits(data: ImageBytes, layout: JpegLayout, needed: int) -> None:
    """Check the number of segments and scans: thousands of either keep decoders busy."""
    if needed > MAX_SEGMENTS:
        raise too_many_parts("JPEG", MAX_SEGMENTS)
    if layout.coding in _PROGRESSIVE or data[layout.pixels + 4] < data[layout.frame + 5]:
        layout.walk = _walk(data, layout.pixels, len(data))  # Else decoders read the first scan only.
        layout.scans = len(layout.walk.scans)


def _walk(data: ImageBytes, at: int, end: int) -> Walk:
    """Walk over the scans from the one that begins at `at`, up to an end marker or `end`.

    Raises:
        CorruptImageError: there are more than `MAX_SCANS`, or more than `MAX_PARTS` segments among them.
    """
    scans: list[tuple[int, int]] = []
    begin = None
    for _ in range(MAX_PARTS):
        marker = _IN_SCAN.search(data, at, end)
        start = marker.start() if marker else end
        if begin is not None:
            scans.append((begin, start))
        code = data[start + 1] if marker else None
        if code is None or code == _EOI:
            return Walk(scans, start if marker else None)
        begin = start if code == _SOS else None
        if begin is not None and len(scans) == MAX_SCANS:
            raise CorruptImageError(
                f"The JPEG image has more than {MAX_SCANS} scans; save it in a usual way."
            )
        at = start + 2
        if code not in _WITHOUT_LENGTH and at + 2 <= end:
            at += _length(data, at)
    raise too_many_parts("JPEG", MAX_PARTS)


def _padded_at(data: ImageBytes) -> int:
    """Return the beginning of the padding at the end of the file."""
    end = len(data)
    while end:
        block = bytes(data[max(0, end - _BLOCK) : end])
        rest = len(block.rstrip(_PADDING))
        end -= len(block) - rest
        if rest:
            break
    return end


def _all_scanned(data: ImageBytes, layout: JpegLayout, scans: list[tuple[int, int]]) -> bool:
    """Return whether the scans' headers name each coefficient of each component to its last bit."""
    count = data[layout.frame + 5]
    components = bytes(data[layout.frame + 6 : layout.frame + 6 + 3 * count : 3])
    missing = dict.fromkeys(components, _ALL_COEFFICIENTS)
    for start, _ in scans:
        body = bytes(data[start + 4 : start + 2 + _length(data, start + 2)])
        names = body[1 : 1 + 2 * body[0] : 2]
        first, last, bits = body[1 + 2 * body[0] :][:3]
        if layout.coding in _SEQUENTIAL:
            first, last, bits = 0, 63, 0
        if bits & 0xF == 0:
            for name in names:
                missing[name] = missing.get(name, 0) & ~((2 << last) - (1 << first))
    return not any(missing.values())


def _next_restart(data: ImageBytes, scan: int, end: int) -> bytes:
    """Return the restart marker that would follow the last one of a scan."""
    last = -1
    for stop in range(end, scan, -_BLOCK):
        start = max(scan, stop - _BLOCK)
        tail = bytes(data[start : min(end, stop + 1)])  # a marker may lie across two blocks
        place = tail.translate(_ALIKE).rfind(b"\xff\xd0")
        if place >= 0:
            last = data[start + place + 1] - 0xD0
            break
    return bytes((0xFF, 0xD0 + (last + 1) % 8))
