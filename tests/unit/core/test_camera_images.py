"""core.images: images that a browser shows are classified; images with missing pixels are rejected."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from core.errors import CorruptImageError
from core.image_header import read_header
from core.images import SIDE, decode
from tests.support.damage import frames, jpegs, noisy, with_chunk, with_segment, with_webp_exif
from tests.support.images import encoded
from tests.support.mutations import join_jpeg, split_jpeg

_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
_MAX_LOST = 64  # bytes at a file's end, of which all that cannot be told from pixels are taken for padding


def _distance(pixels: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(pixels.astype(int) - expected).mean())


def test_damage_beside_the_pixels_is_not_seen() -> None:
    """The API lets every damaged frame in, and its pixels are those of the file without damage."""
    number, wrong = 0, []
    for number, frame in enumerate(frames(), 1):  # noqa: B007 - counted
        try:
            assert read_header(frame.data) == read_header(frame.good)
            distance = _distance(decode(memoryview(frame.data)), decode(frame.good))
        except CorruptImageError as error:
            wrong.append(f"{frame.name}: {error}")
        else:
            if distance > (1 if frame.few else 0):
                wrong.append(f"{frame.name}: {distance} off")
    assert wrong == []
    assert number > 200


_ENDINGS = {"": b"", "half a marker": b"\xff\r\n", "zeros": bytes(40_000), "end marker": b"\xff\xd9"}


@pytest.mark.parametrize("padding", _ENDINGS.values(), ids=_ENDINGS)
def test_a_jpeg_that_lacks_pixels_is_rejected(padding: bytes) -> None:
    """Cut off anywhere, except for a few bytes at the end without visible effect."""
    for coding, whole in jpegs().items():
        expected = decode(whole)
        cuts = range(len(whole) - 2, whole.index(b"\xff\xda") + 20, -1)
        for end in [*cuts[:80], *cuts[80 :: len(cuts) // 60]]:
            pixels = _decoded_unless(whole[:end] + padding, "cut off")
            if pixels is not None:
                assert len(whole) - end < _MAX_LOST, (coding, end)
                assert _distance(pixels, expected) < 1, (coding, end)


def _decoded_unless(data: bytes, says: str) -> np.ndarray | None:
    try:
        return decode(data)
    except CorruptImageError as error:
        assert says in str(error)  # noqa: PT017 - most are rejected, and some are not
        return None


@pytest.mark.parametrize("coding", ["progressive", "progressive restarts", "scan by scan"])
def test_a_jpeg_that_lacks_a_scan_is_rejected(coding: str) -> None:
    """A cut between two scans leaves a whole picture, which is blurred or without colours."""
    whole = jpegs()[coding]
    at = whole.index(b"\xff\xda") + 2
    scans = 0
    while (at := whole.find(b"\xff\xda", at)) >= 0:
        for end in range(at - 40, at + 20):
            for ending in (b"", b"\xff\xd9"):
                with pytest.raises(CorruptImageError, match="cut off"):
                    decode(whole[:end] + ending)
        scans, at = scans + 1, at + 2
    assert scans >= 2


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "lossless"])
def test_other_images_that_lack_pixels_are_rejected(image_format: str) -> None:
    """Wherever they are cut off."""
    lossless = {"lossless": True} if image_format == "lossless" else {}
    whole = encoded(noisy(), "PNG" if image_format == "PNG" else "WEBP", **lossless)
    expected = decode(whole)
    for lost in [*range(1, 100), *range(100, len(whole) - 60, len(whole) // 60)]:
        pixels = _decoded_unless(whole[:-lost], "send")
        assert pixels is not None or lost > 5, lost
        if pixels is not None:
            assert lost < _MAX_LOST
            assert _distance(pixels, expected) < 1


def _tiff(order: str, kind: int, tag: int) -> bytes:
    value = struct.pack(order + {3: "HH", 4: "I"}[kind], *((tag, 0) if kind == 3 else (tag,)))
    entries = struct.pack(f"{order}HHI", 0x010F, 2, 2) + b"c\x00\x00\x00"
    entries += struct.pack(f"{order}HHI", 0x0112, kind, 1) + value
    magic = b"II*\x00" if order == "<" else b"MM\x00*"
    return magic + struct.pack(f"{order}IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize("kind", [3, 4], ids=["SHORT", "LONG"])
@pytest.mark.parametrize("order", "<>", ids=["little", "big"])
@pytest.mark.parametrize("tag", range(1, 9))
def test_orientation_is_read_from_every_format(tag: int, order: str, kind: int) -> None:
    """In both byte orders, as SHORT and LONG, before and behind what Pillow makes of it itself."""
    exif = _tiff(order, kind, tag)
    jpeg, png, webp = (encoded(noisy(), name) for name in ("JPEG", "PNG", "WEBP"))
    for data, plain in (
        (with_segment(jpeg, b"\xe1", b"Exif\x00\x00" + exif), jpeg),
        (with_chunk(png, b"eXIf", exif), png),
        (with_webp_exif(webp, exif), webp),
        (with_webp_exif(webp, b"Exif\x00\x00" + exif), webp),
    ):
        assert (decode(data) == _turned(decode(plain), tag)).all()


def _turned(pixels: np.ndarray, tag: int) -> np.ndarray:
    """Turn a square as EXIF 2.32 says: where its first row and first column are to be seen."""
    if tag >= 5:
        pixels = pixels.swapaxes(0, 1)
    upside_down, mirrored = tag in {3, 4, 7, 8}, tag in {2, 3, 6, 7}
    return pixels[:: -1 if upside_down else 1, :: -1 if mirrored else 1]


@pytest.mark.parametrize("adobe", [False, True], ids=["its components' names", "Adobe's segment"])
def test_what_states_how_colours_are_coded_is_kept(adobe: bool) -> None:  # noqa: FBT001
    """A JPEG of red, green and blue is not taken for one of luma and chroma."""
    data = encoded(noisy(), quality=95, subsampling=0, keep_rgb=True)
    parts = [(name, body) for name, body in split_jpeg(data) if adobe or name != b"\xee"]
    if adobe:  # It alone states it, if the names are 1, 2 and 3.
        parts = [(name, _renamed(name, body)) for name, body in parts]
    expected = np.asarray(noisy().resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    assert _distance(decode(join_jpeg(parts)), expected) < 6


def _renamed(name: bytes, body: bytes) -> bytes:
    changed = bytearray(body)
    if name == b"\xc0":
        changed[6::3] = b"\x01\x02\x03"
    elif name == b"\xda":
        changed[1:6:2] = b"\x01\x02\x03"
    return bytes(changed)


def test_a_colour_profile_changes_nothing() -> None:
    """The model was trained on pixels as they are stored."""
    for name in ("JPEG", "PNG", "WEBP"):
        with_profile = encoded(noisy(), name, icc_profile=_PROFILE)
        assert (decode(with_profile) == decode(encoded(noisy(), name))).all()


def test_a_transparency_with_a_wrong_checksum_is_not_believed() -> None:
    """The picture is shown without it, as browsers do."""
    picture = noisy("P")
    plain = encoded(picture, "PNG")
    clear = encoded(picture, "PNG", transparency=picture.getpixel((9, 9)))
    at = clear.index(b"tRNS")
    length = int.from_bytes(clear[at - 4 : at], "big")
    broken = clear[: at + 4 + length] + b"\x00\x01\x02\x03" + clear[at + 8 + length :]
    assert (decode(broken) == decode(plain)).all()
    assert not (decode(clear) == decode(plain)).all()
