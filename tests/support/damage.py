"""Real cameras' frames: damaged outside the pixels, which every browser shows."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from PIL import Image, ImageChops

from tests.support.bombs import png_chunk
from tests.support.images import encoded, pattern
from tests.support.mutations import Part, join_jpeg, join_png, join_webp, split_jpeg, split_png, split_webp

_SIZE: Final = (150, 113)
_ENDINGS: Final = {
    "nothing": b"",
    "CR LF": b"\r\n",
    "CR LF CR LF": b"\r\n\r\n",
    "one zero": b"\x00",
    "zeros": bytes(5_000),
    "0xFF": b"\xff" * 4,
    "half a marker": b"\xff",
    "half a marker, CR LF": b"\xff\r\n",
    "half a marker, zeros": b"\xff" + bytes(700),
}


@dataclass(frozen=True)
class Frame:
    """A damaged file and an intact file with the same pixels. `few`: some bytes of pixels are missing."""

    name: str
    data: bytes
    good: bytes
    few: bool = False


def noisy(mode: str = "RGB", size: tuple[int, int] = _SIZE) -> Image.Image:
    """Return an image with as many details as a photograph."""
    grain = _grain(size).point([value // 6 for value in range(256)]).convert("RGB")
    return ImageChops.add(pattern(*size), grain, offset=-20).convert(mode)


def _grain(size: tuple[int, int]) -> Image.Image:
    values = random.Random(0)  # noqa: S311 - a pattern, no secret
    return Image.frombytes("L", size, values.randbytes(size[0] * size[1]))


@cache
def jpegs() -> dict[str, bytes]:
    """Return a JPEG of every coding used by cameras."""
    return {
        "baseline": encoded(noisy(), quality=85),
        "4:4:4": encoded(noisy(), quality=95, subsampling=0),
        "optimized": encoded(noisy(), quality=60, optimize=True),
        "grey": encoded(noisy("L"), quality=75),
        "CMYK": encoded(noisy("CMYK"), quality=75),
        "restarts": encoded(noisy(), quality=80, restart_marker_blocks=3),
        "progressive": encoded(noisy(), quality=80, progressive=True),
        "progressive grey": encoded(noisy("L"), quality=80, progressive=True),
        "progressive restarts": encoded(noisy(), quality=80, progressive=True, restart_marker_rows=1),
        "720p": encoded(noisy(size=(1280, 720)), quality=70),
        "scan by scan": _scan_by_scan(),
    }


def frames() -> Iterator[Frame]:
    """Yield every damaged frame."""
    yield from _without_end()
    yield from _with_exif()
    yield from _damaged_segments()
    yield from _damaged_chunks()
    yield from _damaged_webp()


def _scan_by_scan() -> bytes:
    """Return a sequential JPEG with a scan for each component: a grey one's, three times."""
    parts = split_jpeg(encoded(noisy("L"), quality=75))
    components = b"".join(bytes([number, 0x11, 0]) for number in (1, 2, 3))
    scan = next(body for name, body in parts if name == b"\xda")
    frames = [(name, body[:5] + b"\x03" + components if name == b"\xc0" else body) for name, body in parts]
    scans = [(b"\xda", bytes([1, number]) + scan[2:]) for number in (1, 2, 3)]
    return join_jpeg([*(part for part in frames if part[0] != b"\xda"), *scans])


def _without_end() -> Iterator[Frame]:
    for coding, good in jpegs().items():
        for name, ending in _ENDINGS.items():
            yield Frame(f"JPEG, {coding}, {name} for the end marker", good[:-2] + ending, good)


def _tiff(kind: int, value: bytes, *, count: int = 1, order: str = "<") -> bytes:
    """Return EXIF data whose orientation has this type and value."""
    magic = b"II*\x00" if order == "<" else b"MM\x00*"
    entry = struct.pack(f"{order}HHI", 0x0112, kind, count) + value.ljust(4, b"\x00")
    return magic + struct.pack(f"{order}IH", 8, 1) + entry + bytes(4)


def _nonsense() -> dict[str, bytes]:
    beyond = struct.pack("<I", 26)
    return {
        "of a bad magic": b"XX*\x00" + _tiff(3, b"\x06")[4:],
        "with a cut header": b"II*\x00\x08",
        "without an end": _tiff(3, b"\x06")[:14],
        "of no bytes": b"",
        "that lead nowhere": b"II*\x00\xff\xff\xff\xff",
        "of random bytes": zlib.compress(b"camera" * 9)[:40],
        "with a count of 65,535": b"II*\x00" + struct.pack("<IH", 8, 65_535) + b"\xfe" * 30,
        "with orientation as text": _tiff(2, b"6\x00", count=2),
        "with orientation as bytes": _tiff(7, b"\x06\x00\x00\x00", count=4),
        "with orientation as one byte": _tiff(1, b"\x06"),
        "with two orientations": _tiff(3, b"\x06\x00\x03\x00", count=2),
        "with orientation 1/0": _tiff(5, beyond) + struct.pack("<II", 1, 0),
        "with orientation 0/0": _tiff(5, beyond) + bytes(8),
        "with orientation NaN": _tiff(11, struct.pack("<f", float("nan"))),
        "with orientation infinity": _tiff(12, beyond) + struct.pack("<d", float("inf")),
        "with orientation 0": _tiff(3, b"\x00"),
        "with orientation 9": _tiff(3, b"\x09"),
        "with orientation 4,294,967,295": _tiff(4, b"\xff" * 4),
        "with a density of 1/0": _tiff(3, b"\x01").replace(
            struct.pack("<H", 0x0112), struct.pack("<H", 0x011A)
        ),
    }


def _with_exif() -> Iterator[Frame]:
    jpeg, png, webp = (encoded(noisy(), kind) for kind in ("JPEG", "PNG", "WEBP"))
    for name, exif in _nonsense().items():
        yield Frame(f"JPEG, EXIF {name}", with_segment(jpeg, b"\xe1", b"Exif\x00\x00" + exif), jpeg)
        yield Frame(f"PNG, EXIF {name}", with_chunk(png, b"eXIf", exif), png)
        yield Frame(f"WebP, EXIF {name}", with_webp_exif(webp, exif), webp)


def _damaged_segments() -> Iterator[Frame]:
    good = encoded(noisy())
    for name, code, body in (
        ("Adobe of 5 bytes", b"\xee", b"Adobe"),
        ("Adobe of 11 bytes", b"\xee", b"Adobe\x00\x64\x00\x00\x00\x00"),
        ("JFIF of 5 bytes", b"\xe0", b"JFIF\x00"),
        ("JFIF of 9 bytes", b"\xe0", b"JFIF\x00\x01\x01\x01\x00"),
        ("a density of 0", b"\xe0", b"JFIF\x00\x01\x01\x01\x00\x00\x00\x00\x00\x00"),
        ("a density in unit 77", b"\xe0", b"JFIF\x00\x01\x01\x4d\xff\xff\xff\xff\x00\x00"),
        ("ICC without its number", b"\xe2", b"ICC_PROFILE\x00"),
        ("ICC without its count", b"\xe2", b"ICC_PROFILE\x00\x01"),
        ("ICC, part 7 of 3", b"\xe2", b"ICC_PROFILE\x00\x07\x03" + bytes(90)),
        ("an index of images that is cut", b"\xe2", b"MPF\x00II*\x00\x08"),
        ("Photoshop's data, cut", b"\xed", b"Photoshop 3.0\x008BIM\x03\xed\x00\x00\xff"),
        ("FlashPix of no bytes", b"\xe2", b"FPXR\x00"),
        ("an empty comment", b"\xfe", b""),
    ):
        parts = split_jpeg(good)
        if code == b"\xe0":  # It stands for the one that is there.
            parts.pop(0)
        yield Frame(f"JPEG with {name}", join_jpeg([(code, body), *parts]), good)
    profile = [(b"\xe2", b"ICC_PROFILE\x00" + bytes([part, 31]) + bytes(65_000)) for part in range(31)]
    yield Frame("JPEG with 2 MB of ICC", join_jpeg([*profile, *split_jpeg(good)]), good)
    remarks = [(b"\xfe", b"remark %d" % number) for number in range(3_000)]
    yield Frame("JPEG with 3,000 comments", join_jpeg([*remarks, *split_jpeg(good)]), good)
    yield Frame("JPEG with fill bytes", good[:2] + b"\xff" * 60_000 + good[2:], good)


def _damaged_chunks() -> Iterator[Frame]:
    good = encoded(noisy(), "PNG")
    bomb = zlib.compress(bytes(2_000_000))
    for name, kind, body in (
        ("a short gAMA", b"gAMA", b"\x00\x01"),
        ("a short cHRM", b"cHRM", bytes(31)),
        ("a short pHYs", b"pHYs", bytes(3)),
        ("an empty sRGB", b"sRGB", b""),
        ("a density of 4,294,967,295", b"pHYs", b"\xff" * 8 + b"\x01"),
        ("an unknown method in zTXt", b"zTXt", b"key\x00\x07" + zlib.compress(b"text")),
        ("an unknown method in iCCP", b"iCCP", b"name\x00\x09" + zlib.compress(bytes(500))),
        ("an iCCP without a name", b"iCCP", b"x"),
        ("2 MB of iCCP", b"iCCP", b"name\x00\x00" + bomb),
        ("2 MB of zTXt", b"zTXt", b"key\x00\x00" + bomb),
        ("2 MB of iTXt", b"iTXt", b"key\x00\x01\x00\x00\x00" + bomb),
        ("2 MB of iTXt, not compressed", b"iTXt", b"key\x00\x00\x00\x00\x00" + b"t" * 2_000_000),
        ("a text that is not UTF-8", b"iTXt", b"key\x00\x00\x00\x00\x00\xff\xfe"),
        ("a short tRNS", b"tRNS", b"\x00\x01"),
        ("a short acTL", b"acTL", b"\x00"),
        ("a short fcTL", b"fcTL", b"\x00"),
        ("an fcTL out of order", b"fcTL", struct.pack(">IIIII", 7, *_SIZE, 0, 0) + bytes(6)),
        ("a frame of an animation that is none", b"fcTL", struct.pack(">IIIII", 0, 9, 9, 900, 0) + bytes(6)),
        ("an unknown chunk", b"abCd", bytes(30)),
    ):
        yield Frame(f"PNG with {name}", with_chunk(good, kind, body), good)
        broken = png_chunk(kind, body)[:-4] + b"\xde\xad\xbe\xef"
        yield Frame(f"PNG with {name} and a wrong checksum", good[:33] + broken + good[33:], good)
    texts = b"".join(png_chunk(b"tEXt", b"remark\x00" + b"%d" % number) for number in range(3_000))
    yield Frame("PNG with 3,000 texts", good[:33] + texts + good[33:], good)
    yield Frame("PNG with 3,000 texts at its end", good[:-12] + texts + good[-12:], good)
    yield Frame("PNG without an end", good[:-12], good)
    yield Frame("PNG with half an end", good[:-5], good)
    clear = encoded(noisy("P"), "PNG", transparency=3)
    yield Frame("PNG with a palette and a short gAMA", with_chunk(clear, b"gAMA", b"\x00"), clear)
    parts = split_png(good)
    halves = zlib.decompress(b"".join(body for name, body in parts if name == b"IDAT"))
    pixels = zlib.compress(halves)
    between = [(b"IDAT", pixels[:100]), (b"tIME", b"\x00"), (b"IDAT", pixels[100:])]
    yield Frame("PNG with a time among its pixels", join_png([parts[0], *between, (b"IEND", b"")]), good)


def _damaged_webp() -> Iterator[Frame]:
    exif = Image.Exif()
    exif[0x010F] = "camera"
    clear = noisy("RGBA")
    clear.putalpha(_grain(_SIZE))
    moving = [pattern(90, 60, seed=seed) for seed in (2, 3)]
    samples = {
        "lossy": encoded(noisy(), "WEBP"),
        "lossless": encoded(noisy(), "WEBP", lossless=True),
        "transparent": encoded(clear, "WEBP"),
        "extended": encoded(noisy(), "WEBP", exif=exif, icc_profile=bytes(300)),
        "moving": encoded(moving[0], "WEBP", save_all=True, append_images=moving[1:], duration=50),
    }
    for name, good in samples.items():
        for by in (-5, -1, 1, 5, 1_000_000, 8 - len(good)):
            size = struct.pack("<I", len(good) - 8 + by)
            yield Frame(f"WebP, {name}, RIFF size off by {by}", good[:4] + size + good[8:], good)
        for by in (1, 5):
            few = name not in {"extended", "moving"}
            yield Frame(f"WebP, {name}, cut by {by}", good[:-by], good, few)
    extended = split_webp(samples["extended"])
    broken = [(kind, b"\x01" if kind == b"ICCP" else body) for kind, body in extended]
    yield Frame("WebP with a broken colour profile", join_webp(broken), samples["extended"])
    gone = [part for part in extended if part[0] not in {b"ICCP", b"EXIF"}]
    yield Frame("WebP without what its header announces", join_webp(gone), samples["extended"])


def with_segment(data: bytes, code: bytes, body: bytes) -> bytes:
    """Return a JPEG with an additional first segment."""
    return data[:2] + b"\xff" + code + struct.pack(">H", len(body) + 2) + body + data[2:]


def with_chunk(data: bytes, kind: bytes, body: bytes) -> bytes:
    """Return a PNG with an additional chunk after its header."""
    return data[:33] + png_chunk(kind, body) + data[33:]


def with_webp_exif(data: bytes, exif: bytes) -> bytes:
    """Return a simple WebP as an extended one with EXIF data."""
    sides = b"".join(struct.pack("<I", side - 1)[:3] for side in _SIZE)
    parts: list[Part] = [(b"VP8X", b"\x08\x00\x00\x00" + sides), *split_webp(data), (b"EXIF", exif)]
    return join_webp(parts)
