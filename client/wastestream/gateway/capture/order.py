"""The order that a capture process gets: a line of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from wastestream.gateway.source import Source, parse_source


@dataclass(frozen=True)
class Order:
    """What to capture.

    Attributes:
        address: of the source.
        fps: frames a second to sample.
        crop: x, y, width and height in pixels; None: the whole picture.
        rotate: degrees, clockwise.
        quality: of JPEG, FFmpeg's scale.
        similar: difference and number of `Similarity`; None: every sampled frame is kept.
        options: of FFmpeg.
    """

    address: str = field(repr=False)
    fps: float
    crop: tuple[int, int, int, int] | None
    rotate: int
    quality: int
    similar: tuple[float, int] | None
    options: dict[str, str] = field(repr=False)

    @property
    def source(self) -> Source:
        """The source."""
        return parse_source(self.address)

    def to_line(self) -> bytes:
        """Return it as a line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def from_line(line: bytes) -> Order:
    """Return the order of a line."""
    document = json.loads(line)
    crop, similar = document.pop("crop"), document.pop("similar")
    return Order(
        crop=None if crop is None else (crop[0], crop[1], crop[2], crop[3]),
        similar=None if similar is None else (similar[0], similar[1]),
        **document,
    )
