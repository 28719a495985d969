"""core.images: every image file becomes the same kind of array."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from PIL import Image

from core.errors import CorruptImageError, ImageTooLargeError, UnsupportedImageError
from core.image_header import MAX_PIXELS, read_header
from core.images import SIDE, decode
from tests.support.images import encoded, pattern


def _close(pixels: np.ndarray, expected: Image.Image, tolerance: float = 6.0) -> bool:
    wanted = np.asarray(expected.convert("RGB").resize((SIDE, SIDE)), float)
    return bool(np.abs(pixels.astype(float) - wanted).mean() < tolerance)


@pytest.mark.parametrize(
    ("image_format", "options"), [("JPEG", {"quality": 95}), ("PNG", {}), ("WEBP", {"lossless": True})]
)
def test_every_format_shows_the_same_picture(image_format: str, options: dict[str, int]) -> None:
    """JPEG, PNG and WebP of one picture decode to nearly the same pixels."""
    source = pattern(225, 180)
    pixels = decode(encoded(source, image_format, **options))
    assert pixels.shape == (SIDE, SIDE, 3)
    assert pixels.dtype == np.uint8
    assert _close(pixels, source)


def test_a_large_jpeg_is_decoded_at_a_fraction_of_its_size_and_looks_the_same() -> None:
    """A 1280x720 frame decoded at a quarter equals a full decode."""
    source = pattern(1280, 720)
    assert _close(decode(encoded(source, quality=95)), source)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    """Greyscale, bitmap, palette, transparent and CMYK images are classified too."""
    source = pattern(96, 96, mode="L" if mode in {"1", "LA"} else "RGB").convert(
        mode, dither=Image.Dither.NONE
    )
    pixels = decode(encoded(source, "JPEG" if mode == "CMYK" else "PNG"))
    assert _close(pixels, source, tolerance=12.0)


def test_sixteen_bit_greyscale_keeps_its_brightness() -> None:
    """A 16-bit PNG is scaled to 8 bits, not cut off at 255."""
    values = np.full((32, 32), 128 * 257, np.uint16)
    pixels = decode(encoded(Image.fromarray(values), "PNG"))
    assert set(np.unique(pixels)) == {128}


def test_transparency_is_shown_over_white() -> None:
    """A fully transparent pixel of any colour is white."""
    pixels = decode(encoded(Image.new("RGBA", (16, 16), (255, 0, 0, 0)), "PNG"))
    assert pixels.min() == 255


@pytest.mark.parametrize("tag", range(1, 9))
def test_exif_orientation_is_applied(tag: int) -> None:
    """All eight orientations of one picture decode to the picture upright."""
    upright = pattern(64, 64, seed=3)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    stored = upright if tag == 1 else upright.transpose(Image.Transpose(undo[tag]))
    exif = Image.Exif()
    exif[0x0112] = tag
    pixels = decode(encoded(stored, "JPEG", quality=95, exif=exif))
    assert _close(pixels, upright)


def test_an_animation_is_classified_by_its_first_frame() -> None:
    """The first frame of an animated WebP counts."""
    first, second = Image.new("RGB", (32, 32), "red"), Image.new("RGB", (32, 32), "blue")
    data = encoded(first, "WEBP", save_all=True, append_images=[second], duration=100, lossless=True)
    assert tuple(decode(data)[64, 64]) == (255, 0, 0)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_a_truncated_image_is_rejected(image_format: str) -> None:
    """An image whose end is missing is an error of ours, not half a picture."""
    data = encoded(pattern(256, 256), image_format)
    with pytest.raises(CorruptImageError, match=r"send (it|the image) again"):
        decode(data[: len(data) // 2])


def test_what_is_no_image_is_rejected() -> None:
    """For a text, and for another format, the error names the valid formats."""
    for data in (b"", b"hello", encoded(image_format="GIF"), encoded(image_format="BMP")):
        with pytest.raises(UnsupportedImageError, match="JPEG, PNG or WebP"):
            decode(data)


def test_too_many_pixels_are_rejected_before_decoding() -> None:
    """A 50,000 x 50,000 PNG is rejected by its header; its pixels would take 7.5 GB."""
    data = bytearray(encoded(Image.new("L", (8, 8)), "PNG"))
    data[16:24] = (50_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    assert MAX_PIXELS < 50_000**2
    with pytest.raises(ImageTooLargeError, match="50000x50000"):
        read_header(bytes(data))


def test_a_larger_side_can_be_asked_for() -> None:
    """The trainer asks for more pixels to crop from."""
    assert decode(encoded(pattern(300, 300)), side=160).shape == (160, 160, 3)


def test_the_header_is_read_without_the_pixels() -> None:
    """Type and size come from the first bytes."""
    header = read_header(encoded(pattern(300, 200), "WEBP"))
    assert (header.format, header.media_type, header.width, header.height) == ("webp", "image/webp", 300, 200)


def test_the_header_tells_how_often_a_decoder_goes_over_the_picture() -> None:
    """Once, or as often as a progressive JPEG has scans."""
    for data in (encoded(), encoded(image_format="PNG"), encoded(image_format="WEBP")):
        assert read_header(data).scans == 1
    progressive = encoded(progressive=True)
    assert read_header(progressive).scans == progressive.count(b"\xff\xda") > 5


def test_a_header_that_breaks_off_is_corrupt() -> None:
    """A file that ends within its header is damaged, not of an unknown type."""
    with pytest.raises(CorruptImageError):
        read_header(encoded()[:20])
