"""Base classes of the models of requests and responses, and their shared types."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from core.cameras import camera_id
from core.errors import CameraIdError
from core.times import parse_moment

EXAMPLE_ID: Final = "01K9Z3NDEKTSV4RRFFQ69G5FAV"
"""A job's id in examples."""

JobId = Annotated[
    str,
    Field(
        description="Id of a job: a ULID, made when the image was accepted.",
        pattern="^[0-7][0-9A-HJKMNP-TV-Z]{25}$",
        examples=[EXAMPLE_ID],
    ),
]


def _whole(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(_whole)
"""Lets a strict integer be `1.0`, as some languages write it; the last annotation, after the bounds."""

Timestamp = Annotated[
    str,
    Field(
        description="Time, RFC 3339 in UTC, to the millisecond.",
        json_schema_extra={"format": "date-time"},
        examples=["2026-01-31T07:15:00.412Z"],
    ),
]


Slug = Annotated[
    str, Field(description="End of the `type` of a problem.", examples=["queue-full"], pattern="^[a-z-]+$")
]

WebhookId = Annotated[
    str, Field(description="Id of a webhook.", examples=["5f2b8c0d9e7a4136"], pattern="^[0-9a-f]{16}$")
]

_LETTERS: Final = r"A-Za-z0-9\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0400-\u0481\u4e00-\u9fa5"

CAMERA_PATTERN: Final = (
    r"^([A-Za-z0-9][A-Za-z0-9 ._:,()@-]{0,63}"
    rf"|[{_LETTERS}][{_LETTERS} ._:,()@-]{{0,15}})$"
)
"""Ids of cameras that are sure to fit: 64 bytes of ASCII, or 16 letters, Latin, Cyrillic or Chinese.

`core.cameras` takes all scripts; regular expressions that every language understands cannot name them.
"""


CAMERAS_PATTERN: Final = r"^[A-Za-z0-9*][A-Za-z0-9 ._:,()@*-]{0,63}$"
"""Patterns of ids of cameras that are sure to fit."""


CameraArgument = Annotated[
    str, Field(description="Id of a camera.", examples=["belt-1"], pattern=CAMERA_PATTERN)
]


class Input(BaseModel):
    """Base of requests. Unknown members are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Output(BaseModel):
    """Base of responses. Later versions may add members."""

    model_config = ConfigDict(frozen=True, use_enum_values=True)


class AnyRequest(Input):
    """Header fields that every call takes."""

    request_id: Annotated[
        str | None,
        Field(
            alias="X-Request-ID",
            description="Id of the request, for its log line and response: 1 to 64 letters, digits, `.`, `_` "
            "or `-`. Another value is replaced by a new id.",
            examples=["8c1f0e6d2b7a4935"],
        ),
    ] = None


def _moment(text: object) -> datetime:
    """Parse a date (midnight UTC) or a time with its zone."""
    moment = parse_moment(text) if isinstance(text, str) else None
    if moment is None:
        raise ValueError(
            "is not a date, or a time with a zone; send 2026-01-31 (midnight UTC) or 2026-01-31T08:00:00Z"
        )
    return moment


def _camera(text: object) -> str:
    if not isinstance(text, str):
        raise ValueError("is not text")  # noqa: TRY004 - pydantic reports ValueErrors
    try:
        return camera_id(text)
    except CameraIdError as error:
        raise ValueError(str(error)) from error


Moment = Annotated[
    datetime,
    BeforeValidator(_moment),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date"}, {"type": "string", "format": "date-time"}]}
    ),
]

CameraId = Annotated[
    str,
    BeforeValidator(_camera),
    WithJsonSchema({"type": "string", "pattern": CAMERA_PATTERN}),
]
