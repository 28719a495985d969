"""Values of options that several commands share."""

from __future__ import annotations

import re
import time
from typing import Final

import click

from core.cameras import camera_id
from core.errors import CameraIdError
from core.times import parse_moment

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}  # seconds


def moment(context: click.Context, option: click.Parameter, text: str | None) -> int | None:
    """Parse `2h`, a date or a time with its zone; return milliseconds since 1970."""
    del context, option
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return max(0, time.time_ns() // 1_000_000 - int(ago[1]) * _UNITS[ago[2]] * 1000)
    parsed = parse_moment(text)
    if parsed is None:
        raise click.BadParameter(
            f"{text!r} is not a time; write how long ago, such as 30m, 2h or 7d, or a time such as "
            "2026-01-31 (midnight UTC) or 2026-01-31T08:00:00Z."
        )
    return round(parsed.timestamp() * 1000)


def camera(context: click.Context, option: click.Parameter, text: str | None) -> str:
    """Return a camera's id, empty for None."""
    del context, option
    try:
        return "" if text is None else camera_id(text)
    except CameraIdError as error:
        raise click.BadParameter(str(error)) from error
