"""Small files that ask for much: each is a valid image, or begins like one."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Final

from PIL import Image

from core.image_header import MAX_BYTES
from tests.support.pictures import encoded, jpeg, picture

_ROOM: Final = MAX_BYTES - 10_000


def png_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def riff_chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk of a WebP file, with its length."""
    return name + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2)


def webp(*chunks: bytes) -> bytes:
    """Return a WebP file made of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _after_start(insertion: bytes) -> bytes:
    data = jpeg()
    return data[:2] + insertion + data[2:]


def fill_bytes() -> bytes:
    """Return a JPEG with 10 MiB of fill bytes before its first marker."""
    return _after_start(b"\xff" * _ROOM)


def fill_bytes_before_none() -> bytes:
    """Return a JPEG with 10 MiB of fill bytes that are before no marker."""
    return b"\xff\xd8" + b"\xff" * _ROOM + b"\x00"


def empty_segments_among_scans() -> bytes:
    """Return a progressive JPEG with 2.6 million empty application segments behind its first scan."""
    data = encoded(progressive=True)
    second = data.index(b"\xff\xc4", data.index(b"\xff\xda"))
    return data[:second] + b"\xff\xe0\x00\x02" * (_ROOM // 4) + data[second:]


def tables() -> bytes:
    """Return a JPEG with 600 tables."""
    data = encoded()
    at = data.index(b"\xff\xdb")
    return data[:at] + data[at : at + 69] * 600 + data[at:]


def empty_segments() -> bytes:
    """Return a JPEG with 2.6 million empty application segments."""
    return _after_start(b"\xff\xe0\x00\x02" * (_ROOM // 4))


def large_metadata() -> bytes:
    """Return a JPEG with 9.8 MB of EXIF whose directory claims 65,535 entries."""
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff"
    return _after_start((b"\xff\xe1\xff\xff" + exif.ljust(65_533, b"x")) * 150)


def scans(count: int = 1_000) -> bytes:
    """Return a progressive JPEG of 48 million pixels whose last scan comes `count` times more: 0.4 MB."""
    data = encoded(Image.new("L", (8000, 6000), 77), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[data.rindex(b"\xff\xc4", 0, last) : -2] * count + b"\xff\xd9"


def scans_one_by_one() -> bytes:
    """Return a sequential JPEG whose components come in scans of their own, the last 1,000 times."""
    data = encoded(picture(64, 64), quality=60, subsampling=0)
    scan = data.rindex(b"\xff\xda")
    single = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + data[scan + 14 : -2]
    return data[:scan] + single * 1_000 + b"\xff\xd9"


def empty_chunks() -> bytes:
    """Return a PNG with 870,000 empty chunks before its pixels."""
    data = encoded(image_format="PNG")
    return data[:33] + png_chunk(b"abCd", b"") * (_ROOM // 12) + data[33:]


def empty_pixel_chunks() -> bytes:
    """Return a PNG with 870,000 empty IDAT chunks."""
    data = encoded(image_format="PNG")
    at = data.index(b"IDAT") - 4
    return data[:at] + png_chunk(b"IDAT", b"") * (_ROOM // 12) + data[at:]


def compressed_profiles() -> bytes:
    """Return a PNG with 9,000 colour profiles, each of 0.9 MB once decompressed."""
    data = encoded(image_format="PNG")
    profile = png_chunk(b"iCCP", b"name\x00\x00" + zlib.compress(bytes(900_000)))
    return data[:33] + profile * 9_000 + data[33:]


def false_canvas() -> bytes:
    """Return a WebP animation of one 64x48 frame on a canvas of 65,535 x 65,000 pixels."""
    sides = struct.pack("<I", 65_534)[:3] + struct.pack("<I", 64_999)[:3]
    frame = (
        bytes(6) + b"\x3f\x00\x00\x2f\x00\x00" + bytes(4) + encoded(image_format="WEBP", lossless=True)[12:]
    )
    return webp(
        riff_chunk(b"VP8X", b"\x02\x00\x00\x00" + sides),
        riff_chunk(b"ANIM", bytes(6)),
        riff_chunk(b"ANMF", frame),
    )


def second_size() -> bytes:
    """Return a PNG whose first IHDR says 64x48, and a second one 50,000 x 50,000."""
    data = encoded(image_format="PNG")
    second = png_chunk(b"IHDR", struct.pack(">II", 50_000, 50_000) + data[24:29])
    return data[:33] + second + data[33:]


def transparent() -> bytes:
    """Return a WebP of 50 million transparent pixels in 46 bytes, the dearest image that is let in."""
    return encoded(
        Image.new("RGBA", (16_000, 3_120), (1, 2, 3, 4)), "WEBP", lossless=True, method=0, quality=0
    )


REFUSED: Final[tuple[Callable[[], bytes], ...]] = (
    empty_segments,
    empty_segments_among_scans,
    fill_bytes,
    fill_bytes_before_none,
    tables,
    scans,
    scans_one_by_one,
    empty_chunks,
    false_canvas,
)
"""Those that the header gives away."""

FAILING: Final[tuple[Callable[[], bytes], ...]] = (empty_pixel_chunks, second_size)
"""Those that only reading on gives away."""

HARMLESS: Final[tuple[Callable[[], bytes], ...]] = (large_metadata, compressed_profiles)
"""Those whose pixels are good: what is beside them is not read."""
