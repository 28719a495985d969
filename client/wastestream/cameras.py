"""Cameras as the server describes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from wastestream.jobs import optional_time

CameraState = Literal["live", "backfilling", "silent", "off", "ended"]
"""State of a camera that a gateway reads; `off`: silent outside its schedule; `ended`: a sent file."""


@dataclass(frozen=True)
class Camera:
    """A camera, as the server knew it at the time of the answer.

    Attributes:
        id: its id.
        name: its name for people; empty for none.
        site: its place; empty for none.
        expected_fps: frames a second that are expected; None: as its gateway samples.
        state: its state; None for a camera that no gateway reports.
        detail: what the stream is, or why there is none.
        last_frame_at: when its gateway sampled a frame last.
        reported_at: when its gateway reported last.
        spooled: frames that wait on its gateway's disk.
        received: images that the server has accepted, ever.
    """

    id: str
    name: str
    site: str
    expected_fps: float | None
    state: CameraState | None
    detail: str
    last_frame_at: datetime | None
    reported_at: datetime | None
    spooled: int
    received: int


def parse_camera(document: Mapping[str, Any]) -> Camera:
    """Return the camera of a JSON document.

    Raises:
        KeyError, TypeError, ValueError: the document is not a camera.
    """
    return Camera(
        id=document["id"],
        name=document["name"],
        site=document["site"],
        expected_fps=document["expected_fps"],
        state=document["state"],
        detail=document["detail"],
        last_frame_at=optional_time(document["last_frame_at"]),
        reported_at=optional_time(document["reported_at"]),
        spooled=document["spooled"],
        received=document["received"],
    )
