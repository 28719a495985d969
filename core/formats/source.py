"""Bytes for Pillow, in bounded portions."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

from PIL import Image, ImageFile

from core.errors import CorruptImageError
from core.formats.layout import ImageBytes

MAX_READS: Final = 20_000
"""Maximum number of Pillow's reads from one image.

It reads each part of a file in 2-4 calls, so a usual image takes 20-200, a 10 MiB PNG in chunks of 4 kB some
8,000. Without a bound, 10 MiB of fill bytes between two segments took it 11 seconds.
"""

_WATCHED: Final = "wastestream_watched_jpeg"


class Source(io.BytesIO):
    """Bytes for Pillow, which may read from them `MAX_READS` times.

    Args:
        data: a file.
        ending: what follows it, one piece for each call of `read`; the decoder must take each of them
            before the next, or the image is cut off (`core.formats.jpeg.jpeg_source` says why).
    """

    def __init__(self, data: ImageBytes, ending: Sequence[bytes] = ()) -> None:
        super().__init__(data)
        self._left = MAX_READS
        self._ending = list(reversed(ending))
        self.piece = b""
        """The piece of the ending that was read last."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Return as `io.BytesIO.read`, then the ending."""
        self._left -= 1
        if self._left < 0:
            raise CorruptImageError(
                "The image consists of more parts than a picture needs; save it in a usual way."
            )
        block = super().read(size)
        if not block and self._ending:
            block = self.piece = self._ending.pop()
        return block

    def watch(self, image: Image.Image) -> None:
        """Let the decoder of `image`, opened from here, see to it that each piece of the ending is taken."""
        if self._ending and isinstance(image, ImageFile.ImageFile):
            image.tile = [
                tile._replace(codec_name=_WATCHED, args=(self, *tile.args))  # type: ignore[misc]
                for tile in image.tile
            ]


class _WatchedDecoder(ImageFile.PyDecoder):
    """Pillow's decoder of JPEGs, which does not say itself that pixels are missing."""

    def init(self, args: tuple[Any, ...]) -> None:
        self._source: Source = args[0]
        self._jpeg = Image.core.jpeg_decoder(self.mode, *args[1:])  # type: ignore[attr-defined]

    def setimage(self, im: Any, extents: tuple[int, int, int, int] | None = None) -> None:
        self._jpeg.setimage(im, extents)

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Decode the remainder of earlier pieces and the latest piece; return as `PyDecoder`."""
        if self._source.piece and len(buffer) > len(self._source.piece):
            raise CorruptImageError("The JPEG image is cut off (its last scan is incomplete); send it again.")
        taken, error = self._jpeg.decode(buffer)
        return int(taken), int(error)

    def cleanup(self) -> None:
        self._jpeg.cleanup()


Image.register_decoder(_WATCHED, _WatchedDecoder)
