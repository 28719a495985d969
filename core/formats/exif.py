"""Orientation in EXIF data. Invalid data, which cameras write often, counts as no orientation."""

from __future__ import annotations

import struct
from typing import Final

from core.formats.layout import ImageBytes

_ORDERS: Final = {b"II*\x00": "<", b"MM\x00*": ">"}
"""First bytes of a TIFF header to the byte order of the rest."""

_ORIENTATION: Final = 0x0112
_VALUES: Final = {3: "H", 4: "I"}
"""Valid types of an orientation, SHORT and LONG, to their formats for `struct`."""


def orientation(exif: ImageBytes) -> int:
    """Return the orientation (1 to 8; EXIF 2.32, table 6), 1 without a valid one.

    Args:
        exif: a TIFF header and what follows it, perhaps cut off.
    """
    if exif[:6] == b"Exif\x00\x00":  # WebP and PNG files should not have this, and some do.
        exif = exif[6:]
    order = _ORDERS.get(bytes(exif[:4]))
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(f"{order}I", exif, 4)
        (count,) = struct.unpack_from(f"{order}H", exif, at)
    except struct.error:
        return 1
    entries = exif[at + 2 : at + 2 + 12 * count]
    for tag, kind, values, value in struct.iter_unpack(f"{order}HHI4s", entries[: len(entries) // 12 * 12]):
        if tag == _ORIENTATION and kind in _VALUES and values == 1:
            (number,) = struct.unpack_from(order + _VALUES[kind], value)
            return int(number) if 1 <= number <= 8 else 1  # noqa: PLR2004 - as many as there are
    return 1
