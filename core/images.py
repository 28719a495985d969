"""Bytes to pixels: the only decode in the project.

Trainer and worker both call `decode`, so training and serving cannot drift apart.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from core.errors import CorruptImageError, ImageError
from core.formats.exif import orientation
from core.formats.jpeg import JpegLayout, jpeg_source
from core.formats.layout import ImageBytes, Layout
from core.formats.png import png_source
from core.formats.source import Source
from core.formats.webp import WebpLayout, webp_source
from core.image_header import check_pixels, read_layout

SIDE: Final = 128
"""Side of the square that the model sees, pixels."""

Pixels = npt.NDArray[np.uint8]
"""uint8, shape (SIDE, SIDE, 3), RGB."""

_REDUCING_GAP: Final = 3.0
# Pillow first shrinks by whole factors down to 3 times the target, then filters: as good as filtering
# from full size to the eye, and several times faster on large PNGs (Pillow's Image.resize documentation).

_WEBP_BYTES: Final = 12  # a pixel: libwebp's decoder keeps two canvases of 4 beside the picture itself

# Checked from the header, with our own error; Pillow's check only warns below twice its limit.
Image.MAX_IMAGE_PIXELS = None

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


def decode(data: ImageBytes, *, side: int = SIDE) -> Pixels:
    """Decode one JPEG, PNG or WebP to the model's input.

    The whole frame is squeezed to a square (the aspect ratio is not kept, nothing is cut off), turned
    upright by its EXIF tag; the first frame of an animation; transparency over white.

    Args:
        data: the file's bytes.
        side: side of the result in pixels; the trainer asks for more than the model's to crop from.

    Returns:
        uint8 array of shape (side, side, 3), RGB.

    Raises:
        UnsupportedImageError, ImageTooLargeError: as `core.image_header.read_header`.
        CorruptImageError: the header or the pixels cannot be decoded.
        MemoryError: there is too little memory, which says nothing of the image unless it is decoded alone.
    """
    name, layout = read_layout(data)
    try:
        source = _source(data, layout)
        with Image.open(source, formats=(name.upper(),)) as image:
            check_pixels(*image.size)  # A file can hold a second header, which Pillow believes.
            # JPEG only: decode at 1/2, 1/4 or 1/8 size, never below the target (1280x720: 12 ms to 2 ms).
            image.draft("RGB", (side, side))
            source.watch(image)
            return _upright(_small(image, side), data, layout)
    except (MemoryError, ImageError):
        raise
    except UnidentifiedImageError as error:
        raise CorruptImageError(
            f"The {name.upper()} image is damaged (its header contradicts itself); send it again."
        ) from error
    except Exception as error:  # Pillow's parsers raise whatever a malformed segment makes them hit.
        if isinstance(layout, WebpLayout):
            # libwebp says the same of damage and of too little memory; this raises MemoryError if it is that.
            bytearray(_WEBP_BYTES * layout.width * layout.height)
        raise CorruptImageError(
            f"The {name.upper()} image is damaged or cut off ({error}); send it again."
        ) from error


def _source(data: ImageBytes, layout: Layout) -> Source:
    """Return the parts of the file that the pixels need, for the decoder."""
    if isinstance(layout, JpegLayout):
        source = jpeg_source(data, layout)
        return Source(source.data, source.ending)
    if isinstance(layout, WebpLayout):
        return Source(webp_source(data, layout))
    return Source(png_source(data, layout))


def _upright(small: Image.Image, data: ImageBytes, layout: Layout) -> Pixels:
    turn = _EXIF_TURNS.get(orientation(data[layout.exif])) if layout.exif else None
    # After the resize: the target is square, so the order does not matter and this moves 48 kB.
    return np.asarray(small if turn is None else small.transpose(turn))


def _small(image: Image.Image, side: int) -> Image.Image:
    """Return the picture squeezed to the square, RGB, transparency over white."""
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit greyscale PNG: keep the high byte.
        high = (np.asarray(image).clip(0, 65535).astype(np.uint16) >> 8).astype(np.uint8)
        return _resized(Image.fromarray(high), side).convert("RGB")
    if "A" in image.mode or "transparency" in image.info:
        # Resized with colours weighted by opacity, then laid over white: laid over white at full size, 50
        # million pixels took a gigabyte.
        weighted = "La" if image.mode == "LA" else "RGBa"
        return _over_white(_resized(_as_rgba(image).convert(weighted), side))
    return _resized(image if image.mode == "RGB" else image.convert("RGB"), side)


def _resized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=_REDUCING_GAP)


def _as_rgba(image: Image.Image) -> Image.Image:
    return image if image.mode in {"LA", "RGBA"} else image.convert("RGBA")


def _over_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
