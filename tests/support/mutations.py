"""Damaged and hostile images: structured mutations of real JPEG, PNG and WebP files.

A case is known by its number alone, so one that fails can be made again.
"""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from itertools import accumulate
from typing import Final

from PIL import Image

from tests.support.images import encoded, pattern

Part = tuple[bytes, bytes]
"""A JPEG marker, or the name of a PNG or WebP chunk, and its contents."""

_EDGES: Final = (0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
_SIDES: Final = (0, 1, 2, 7, 8, 9, 255, 256, 4096, 16383, 16384, 65500, 65535)
_WITHOUT_LENGTH: Final = {*range(0xD0, 0xDA), 0x01}
_FOREIGN: Final = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00",
    b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n",
    b"PK\x03\x04\x14\x00\x00\x00\x00\x00",
    b"<html><script>alert(1)</script></html>",
    b"II*\x00\x08\x00\x00\x00\xff\xff",
    b"#!/bin/sh\nexit 1\n",
)


def case(number: int, seed: int = 0) -> bytes:
    """Return the bytes of one case: a real file after one to four mutations."""
    rng = random.Random(f"{seed}:{number}")  # noqa: S311 - repeatable, no secret
    data = rng.choice(samples())
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        data = rng.choice(_MUTATIONS)(rng, data)
    return data


@cache
def samples() -> tuple[bytes, ...]:
    """Return real files of every kind that Pillow's encoders write."""
    small, tall = pattern(40, 30), pattern(9, 70, seed=1)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "camera"
    frames = [pattern(24, 24, seed=seed) for seed in (2, 3)]
    return (
        encoded(small),
        encoded(small, progressive=True),
        encoded(small, progressive=True, quality=30, exif=exif),
        encoded(pattern(300, 200), quality=40, subsampling=2, restart_marker_blocks=2),
        encoded(small, exif=exif, icc_profile=b"\x00" * 3000, comment=b"c" * 80, dpi=(72, 72)),
        encoded(pattern(40, 30, mode="L")),
        encoded(pattern(40, 30, mode="CMYK"), quality=60),
        encoded(tall, optimize=True, subsampling=0),
        encoded(small, "PNG"),
        encoded(small.convert("RGBA"), "PNG", exif=exif),
        encoded(pattern(40, 30, mode="P"), "PNG", transparency=1),
        encoded(pattern(40, 30, mode="1"), "PNG"),
        encoded(pattern(40, 30, mode="LA"), "PNG", icc_profile=b"\x00" * 300),
        encoded(pattern(40, 30, mode="I;16"), "PNG"),
        encoded(frames[0], "PNG", save_all=True, append_images=frames[1:], duration=50),
        encoded(small, "WEBP"),
        encoded(small, "WEBP", lossless=True, exif=exif),
        encoded(small.convert("RGBA"), "WEBP", quality=40),
        encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], duration=50),
    )


def _overwrite(rng: random.Random, data: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.randint(1, 8)) + data[at + rng.randint(0, 8) :]


def _flip(rng: random.Random, data: bytes) -> bytes:
    damaged = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        if damaged:
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _set_number(rng: random.Random, data: bytes) -> bytes:
    """Write a number at the edge of its range anywhere, in either byte order."""
    width = rng.choice("BHI")
    value = rng.choice(_EDGES) & (256 ** struct.calcsize(width) - 1)
    at = rng.randrange(len(data) + 1)
    return data[:at] + struct.pack(rng.choice("<>") + width, value) + data[at + struct.calcsize(width) :]


def _truncate(rng: random.Random, data: bytes) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _repeat(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * rng.choice((1, 1, 2, 40)) + data[end:]


def _remove(rng: random.Random, data: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def _splice(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice(samples())
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other)) :]


def _polyglot(rng: random.Random, data: bytes) -> bytes:
    other = rng.choice((*_FOREIGN, *samples()))
    return rng.choice((data + other, other + data, data[:30] + other + data[30:]))


def _rebuild(rng: random.Random, data: bytes) -> bytes:
    """Split the file, change its parts, and join them with correct lengths and checksums."""
    for magic, split, join, edit in _FORMATS:
        if data[: len(magic)] == magic:
            parts = split(data)
            if parts:
                rng.choice((*_PART_MUTATIONS, edit, edit))(rng, parts)
            return join(parts)
    return _overwrite(rng, data)


def _change_end(rng: random.Random, data: bytes) -> bytes:
    """Overwrite the last bytes, as cameras do with a JPEG's end marker."""
    ending = rng.choice(
        (b"", b"\r\n", b"\xff", b"\xff\r\n", b"\xff\xd9\r\n", bytes(rng.choice((1, 40, 900))))
    )
    return data[: -rng.choice((1, 2, 2, 2, 5, 12))] + ending


def _change_file_length(rng: random.Random, data: bytes) -> bytes:
    """Change the length in a WebP's header."""
    size = max(0, len(data) - 8 + rng.choice((-12, -5, -1, 1, 5, *_EDGES))) & 0xFFFFFFFF
    return data[:4] + struct.pack("<I", size) + data[8:] if data[:4] == b"RIFF" else _set_number(rng, data)


def _break_checksum(rng: random.Random, data: bytes) -> bytes:
    """Change the checksum of one chunk of a PNG."""
    starts = list(accumulate((len(body) + 12 for _, body in split_png(data)), initial=8))
    if data[:4] != b"\x89PNG" or len(starts) == 1:
        return _flip(rng, data)
    end = rng.choice(starts[1:])
    return data[: end - 4] + rng.randbytes(4) + data[end:]


def _exif(rng: random.Random) -> bytes:
    """Return EXIF data with an orientation of any type, or something similar."""
    order = rng.choice("<>")
    entry = struct.pack(
        f"{order}HHII", 0x0112, rng.choice((*range(14), 255)), rng.choice(_EDGES), rng.choice((1, 6, *_EDGES))
    )
    entries = b"".join(rng.choice((entry, rng.randbytes(12))) for _ in range(rng.choice((1, 1, 3, 400))))
    magic = (
        rng.choice((b"II*\x00", b"MM\x00*"))
        if rng.random() < 0.2
        else {"<": b"II*\x00", ">": b"MM\x00*"}[order]
    )
    count = len(entries) // 12 if rng.random() < 0.8 else rng.choice(_EDGES) & 0xFFFF
    where = 8 if rng.random() < 0.8 else rng.choice(_EDGES)
    return magic + struct.pack(f"{order}IH", where, count) + entries


def _drop_part(rng: random.Random, parts: list[Part]) -> None:
    parts.pop(rng.randrange(len(parts)))


def _repeat_part(rng: random.Random, parts: list[Part]) -> None:
    at = rng.randrange(len(parts))
    parts[at:at] = [parts[at]] * rng.choice((1, 1, 2, 30, 120, 600))


def _move_part(rng: random.Random, parts: list[Part]) -> None:
    parts.insert(rng.randrange(len(parts) + 1), parts.pop(rng.randrange(len(parts))))


def _damage_part(rng: random.Random, parts: list[Part]) -> None:
    at = rng.randrange(len(parts))
    name, body = parts[at]
    parts[at] = (name, rng.choice((_overwrite, _flip, _set_number, _truncate, _repeat))(rng, body))


def _rename_part(rng: random.Random, parts: list[Part]) -> None:
    at = rng.randrange(len(parts))
    parts[at] = (rng.choice(parts)[0], parts[at][1])


def _edit_jpeg(rng: random.Random, parts: list[Part]) -> None:
    """Change size, components, precision or coding, or add a segment of a kind that decoders parse."""
    for at, (name, body) in enumerate(parts):
        if name[0] in {0xC0, 0xC1, 0xC2} and len(body) >= 6 and rng.random() < 0.5:
            size = struct.pack(">HH", rng.choice(_SIDES), rng.choice(_SIDES))
            components = bytes([rng.choice((0, 1, 2, 3, 4, 5, 255))])
            precision = bytes([rng.choice((8, 8, 8, 12, 16, 0))])
            kept = rng.random() < 0.7
            parts[at] = (
                bytes([rng.choice((name[0], name[0], 0xC0, 0xC2, 0xC3, 0xC9, 0xCA))]),
                precision + size + (body[5:] if kept else components + body[6:]),
            )
            return
    name, body = rng.choice(
        (
            (b"\xe1", b"Exif\x00\x00" + rng.choice((b"II*\x00", b"MM\x00*")) + rng.randbytes(40)),
            (b"\xe1", b"Exif\x00\x00" + _exif(rng)),
            (b"\xe0", b"JFIF\x00" + rng.randbytes(rng.randrange(12))),
            (b"\xee", b"Adobe" + rng.randbytes(rng.randrange(7))),
            (b"\xe1", b"Exif\x00\x00II*\x00\x08\x00\x00\x00\xff\xff" + rng.randbytes(12) * 400),
            (b"\xe2", b"ICC_PROFILE\x00" + rng.randbytes(2) + bytes(2000)),
            (b"\xe2", b"MPF\x00II*\x00\x08\x00\x00\x00" + rng.randbytes(60)),
            (b"\xee", b"Adobe" + rng.randbytes(7)),
            (b"\xed", b"Photoshop 3.0\x008BIM" + rng.randbytes(30)),
            (b"\xdd", rng.randbytes(2)),
            (b"\xdc", rng.randbytes(2)),
            (b"\xdb", bytes([rng.randrange(256)]) + rng.randbytes(64)),
            (b"\xc4", bytes([rng.randrange(256)]) + rng.randbytes(60)),
        )
    )
    parts.insert(rng.randrange(len(parts) + 1), (name, body))


def _edit_png(rng: random.Random, parts: list[Part]) -> None:
    """Change IHDR, the pixels inside their compression, or add a chunk that decoders parse."""
    kind = rng.randrange(3)
    for at, (name, body) in enumerate(parts):
        if kind == 0 and name == b"IHDR" and len(body) == 13:
            bits = bytes([rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 5)), 0, 0])
            size = struct.pack(">II", rng.choice((*_SIDES, 40)), rng.choice((*_SIDES, 30)))
            parts[at] = (name, (size if rng.random() < 0.7 else body[:8]) + bits + rng.choice((b"\0", b"\1")))
            return
        if kind == 1 and name == b"IDAT":
            try:
                raw = zlib.decompress(body)
            except zlib.error:
                return
            grown = rng.choice((raw * rng.choice((1, 50)), _flip(rng, raw), raw[: len(raw) // 2], bytes(9)))
            parts[at] = (name, zlib.compress(grown, rng.randrange(10)))
            return
    bomb = zlib.compress(bytes(3_000_000))
    name, body = rng.choice(
        (
            (b"tEXt", b"key\x00" + rng.randbytes(20)),
            (b"zTXt", b"key\x00\x00" + bomb),
            (b"iTXt", b"key\x00\x01\x00\x00\x00" + bomb),
            (b"iCCP", b"name\x00\x00" + rng.choice((bomb, zlib.compress(bytes(500)), b"x"))),
            (b"eXIf", rng.choice((b"II*\x00", b"MM\x00*")) + rng.randbytes(40)),
            (b"eXIf", _exif(rng)),
            (b"tRNS", rng.randbytes(rng.randrange(10))),
            (b"PLTE", rng.randbytes(rng.randrange(800))),
            (b"gAMA", rng.randbytes(4)),
            (b"cHRM", rng.randbytes(32)),
            (b"pHYs", rng.randbytes(9)),
            (b"acTL", struct.pack(">II", rng.choice(_EDGES), 0)),
            (b"fcTL", struct.pack(">IIIII", 0, *(rng.choice(_SIDES) for _ in range(4))) + rng.randbytes(6)),
            (b"fdAT", rng.randbytes(30)),
            (b"CgBI", rng.randbytes(4)),
        )
    )
    parts.insert(rng.randrange(len(parts) + 1), (name, body))


def _edit_webp(rng: random.Random, parts: list[Part]) -> None:
    """Change or add the extended header, or add a chunk that decoders parse."""
    sides = [struct.pack("<I", max(0, rng.choice(_SIDES) - 1))[:3] for _ in range(2)]
    frame = rng.randbytes(6) + b"".join(sides) + rng.randbytes(4)
    name, body = rng.choice(
        (
            (b"VP8X", bytes([rng.randrange(256), 0, 0, 0]) + b"".join(sides)),
            (b"ANIM", rng.randbytes(6)),
            (b"ANMF", frame + b"VP8L" + struct.pack("<I", 8) + rng.randbytes(8)),
            (b"ALPH", rng.randbytes(40)),
            (b"EXIF", rng.choice((b"II*\x00", b"Exif\x00\x00MM\x00*")) + rng.randbytes(40)),
            (b"EXIF", _exif(rng)),
            (b"ICCP", bytes(300)),
            (b"VP8L", b"\x2f" + rng.randbytes(30)),
            (b"VP8 ", rng.randbytes(3) + b"\x9d\x01\x2a" + rng.randbytes(30)),
        )
    )
    at = rng.choice((0, rng.randrange(len(parts) + 1)))
    parts[at : at + rng.randrange(2)] = [(name, body)]


def split_jpeg(data: bytes) -> list[Part]:
    """Return the segments of a JPEG, a scan's with its data."""
    parts: list[Part] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        code = data[at + 1]
        if code in _WITHOUT_LENGTH:
            parts.append((data[at + 1 : at + 2], b""))
            at += 2
            continue
        end = at + 2 + struct.unpack_from(">H", data, at + 2)[0]
        if code == 0xDA:  # With its pixels, up to the next marker.
            while end + 1 < len(data) and not (
                data[end] == 0xFF and data[end + 1] not in {0, *range(0xD0, 0xD8)}
            ):
                end += 1
        parts.append((data[at + 1 : at + 2], data[at + 4 : end]))
        at = end
    return parts


def join_jpeg(parts: Sequence[Part]) -> bytes:
    """Return the JPEG that consists of these segments, with an end marker."""
    data = b"\xff\xd8"
    for name, body in parts:
        data += b"\xff" + name
        if name[0] == 0xDA and body:
            head = min(1 + 2 * body[0] + 3, len(body))
            data += struct.pack(">H", head + 2) + body
        elif name[0] not in _WITHOUT_LENGTH:
            data += struct.pack(">H", min(len(body) + 2, 0xFFFF)) + body
    return data + b"\xff\xd9"


def split_png(data: bytes) -> list[Part]:
    """Return the chunks of a PNG."""
    parts: list[Part] = []
    at = 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def join_png(parts: Sequence[Part]) -> bytes:
    """Return the PNG that consists of these chunks, with correct checksums."""
    chunks = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def split_webp(data: bytes) -> list[Part]:
    """Return the chunks of a WebP."""
    parts: list[Part] = []
    at = 12
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<I", data, at + 4)
        parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return parts


def join_webp(parts: Sequence[Part]) -> bytes:
    """Return the WebP that consists of these chunks."""
    chunks = [name + struct.pack("<I", len(body)) + body + b"\x00" * (len(body) % 2) for name, body in parts]
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


_PART_MUTATIONS: Final = (_drop_part, _repeat_part, _move_part, _damage_part, _damage_part, _rename_part)

_Format = tuple[
    bytes,
    Callable[[bytes], list[Part]],
    Callable[[Sequence[Part]], bytes],
    Callable[[random.Random, list[Part]], None],
]

_FORMATS: Final[tuple[_Format, ...]] = (
    (b"\xff\xd8\xff", split_jpeg, join_jpeg, _edit_jpeg),
    (b"\x89PNG\r\n\x1a\n", split_png, join_png, _edit_png),
    (b"RIFF", split_webp, join_webp, _edit_webp),
)

_MUTATIONS: Final = (
    *(_rebuild,) * 8,
    _overwrite,
    _flip,
    _set_number,
    _truncate,
    _repeat,
    _remove,
    _splice,
    _polyglot,
    _change_end,
    _change_end,
    _change_file_length,
    _break_checksum,
)
