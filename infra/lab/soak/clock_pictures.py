"""Pictures that show when they were made: a frame's time of capture can be compared with the truth."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

_CELLS: Final = 8  # in a row, and rows
_BITS: Final = 48
_EDGE: Final = "1" * 8 + "0" * 8
_MIDDLE: Final = 127


def make_picture(moment: float, width: int = 320, height: int = 240) -> Image.Image:
    """Return a grey picture of a time: 8 white cells, 8 black ones, milliseconds since 1970 in binary."""
    bits = _EDGE + f"{round(moment * 1000):0{_BITS}b}"
    small = Image.frombytes("L", (_CELLS, _CELLS), bytes(255 * int(bit) for bit in bits))
    return small.resize((width, height), Image.Resampling.NEAREST)


def read_picture(data: bytes) -> float:
    """Return the time that an image file shows.

    Raises:
        ValueError: it shows none.
    """
    cells = Image.open(io.BytesIO(data)).convert("L").resize((_CELLS, _CELLS), Image.Resampling.BOX).tobytes()
    bits = "".join("1" if cell > _MIDDLE else "0" for cell in cells)
    if not bits.startswith(_EDGE):
        raise ValueError(f"The picture shows no time: {bits}.")
    return int(bits[len(_EDGE) :], 2) / 1000


def to_jpeg(picture: Image.Image) -> bytes:
    """Return a picture as JPEG."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG")
    return stream.getvalue()
