"""Bytes to pixels: the only decode in the project.

Trainer and worker both call `decode`, so training and serving cannot drift apart.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from core.errors import CorruptImageError
from core.headers import open_image

SIDE: Final = 128
"""Side of the square that the model sees, pixels."""

Pixels = npt.NDArray[np.uint8]
"""uint8, shape (SIDE, SIDE, 3), RGB."""

_REDUCING_GAP: Final = 3.0
# Pillow first shrinks by whole factors down to 3 times the target, then filters: as good as filtering
# from full size to the eye, and several times faster on large PNGs (Pillow's Image.resize documentation).

_EXIF_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation tag (EXIF 2.32, table 6) to the transposition that shows the image upright."""


def decode(data: bytes, *, side: int = SIDE) -> Pixels:
    """Decode one JPEG, PNG or WebP to what the model takes.

    The whole frame is squeezed to a square (the aspect ratio is not kept, nothing is cut off), turned
    upright by its EXIF tag; the first frame of an animation; transparency over white.

    Args:
        data: the file's bytes.
        side: side of the result in pixels; the trainer asks for more than the model's to crop from.

    Returns:
        uint8 array of shape (side, side, 3), RGB.

    Raises:
        UnsupportedImageError, ImageTooLargeError: as `core.headers.open_image`.
        CorruptImageError: the header or the pixels cannot be decoded.
    """
    header, image = open_image(data)
    try:
        with image:
            return _to_array(image, side)
    except MemoryError:
        raise  # Says nothing of the image; the worker tries it again alone.
    except Exception as error:  # As in open_image: any exception here means bytes that Pillow can't decode.
        raise CorruptImageError(
            f"The {header.format.upper()} image is damaged or cut off ({error}); send it again."
        ) from error


def _to_array(image: Image.Image, side: int) -> Pixels:
    # JPEG only: decode at 1/2, 1/4 or 1/8 size, never below the target (1280x720: 12 ms to 2 ms).
    image.draft("RGB", (side, side))
    orientation = _orientation(image)
    small = _to_rgb(image).resize((side, side), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)
    if orientation in _EXIF_TURNS:
        # After the resize: the target is square, so the order does not matter and this moves 48 kB.
        small = small.transpose(_EXIF_TURNS[orientation])
    return np.asarray(small)


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info:
        return 1
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        if "transparency" not in image.info:
            return image
        return _over_white(image)
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale PNG: keep the high byte.
        return Image.fromarray(
            (np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
        ).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        return _over_white(image)
    return image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    white = Image.new("RGBA", rgba.size, "white")
    return Image.alpha_composite(white, rgba).convert("RGB")
