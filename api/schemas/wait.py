"""Parameter of long polling."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, WithJsonSchema

from api.http.timestamps import parse_number
from api.schemas.base import Input

MAX_WAIT: Final = 30.0
"""Maximum seconds that a request waits for its job."""


def _seconds(text: str) -> float:
    seconds = parse_number(text)
    if seconds is None or seconds > MAX_WAIT:
        raise ValueError(f"is not a number from 0 to {MAX_WAIT:.0f}; send the seconds to wait")
    return seconds


Wait = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "number", "minimum": 0, "maximum": MAX_WAIT}),
]


class WaitQuery(Input):
    """Time to wait for the job to settle."""

    wait: Annotated[
        Wait,
        Field(
            description="Seconds to wait for the job to settle. The response comes as soon as it has, or "
            "after this time with the job as it is. With `Retry-After` it came early, because too many "
            "requests wait.",
            examples=[10],
        ),
    ] = 0.0
